"""The server measured from outside: `python -m benchmarks.serving PART [--help]`.

| part | what | results |
|---|---|---|
| `overhead` | the server beside its bare engine, 16 streams | serving.json |
| `rivals` | the servers of the course, of vLLM and of llama.cpp: the same requests at the same moments | serving_rivals.json |
"""
