"""Other engines beside the course's: `python -m benchmarks.rivals [--minutes 9] [--only NAME ...] [--workloads NAME ...]`.

SmolLM2-135M-Instruct, greedy, forced lengths, the same number of threads. Contenders take turns: one sample of each, then
the next turn with other words. Each is a process of its own in an environment of its own, made on demand in the cache
folder, and driven by lines of JSON. What `--only`, `--formats` and `--workloads` leave out stays as it is in
results/rivals.json; a sample that is there is not taken again, and each is written as soon as it is taken. So the same
command, given again, goes on where a slice of `--minutes` ended or was interrupted. A sample counts only when machine,
versions and threads are those of the file; `--again` forgets the samples that the command names.

`--prepare` measures nothing: it makes the environments and converts the model (some minutes and 6 GB, once).
Afterwards `python tools/rivals_table.py` puts the table into the README.

| module | |
|---|---|
| `contenders` | who takes part: names, formats, environments |
| `environments` | virtual environments from the pinned versions in `environments/` |
| `models` | the model in each rival's own format, converted once |
| `protocol` | the rival's side of the pipe, and what an adapter has to do; standard library only |
| `process` | our side of the pipe |
| `workloads` | what is measured |
| `results` | samples, merged into the file |
| `adapters` | one file for each rival |
"""
