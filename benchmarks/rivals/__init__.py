"""Measure other engines beside the course's: `python -m benchmarks.rivals [--minutes 9] [--only NAME ...]`.

SmolLM2-135M-Instruct, greedy, forced lengths, the same number of threads. Contenders take turns: one sample
of each, then the next turn with other words. Each contender is a process of its own, in an environment of its
own that is made on demand in the cache folder, and is driven by lines of JSON. Recorded with each sample:
seconds, tokens, how many answers equal transformers' in fp32, and how many cores other programs used.

Each sample is written to results/rivals.json as soon as it is taken, and none that is there is taken again.
So a run ends after `--minutes`, or is interrupted, and the same command goes on from there. `--only`,
`--formats` and `--workloads` name what to measure; all else in the file stays. A file of another machine, or
with other threads, is begun anew; samples of other versions of a contender are replaced; `--again` forgets
the samples that are named.

`--prepare` measures nothing: the environments are made, and the model is converted for each rival, once.
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
| `slice` | one run: turns, the time that is left, a contender that fails; also for `benchmarks.serving` |
| `adapters` | one file for each rival |
"""
