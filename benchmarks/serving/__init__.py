"""The server measured from outside: `python -m benchmarks.serving PART [--help]`.

| part | what | results |
|---|---|---|
| `overhead` | the server beside its bare engine, 16 streams | serving.json |
| `rivals` | the servers of the course, of vLLM and of llama.cpp: the same requests at the same moments | serving_rivals.json |
| `public` | guidellm beside the course's load generator, on the same trace | serving_public.json |
| `streams` | 64 streams at once on the real model, each compared with its own `generate` | serving_streams.json |
| `replicas` | two replicas behind a router: simulated beside measured throughput | serving_replicas.json |
"""
