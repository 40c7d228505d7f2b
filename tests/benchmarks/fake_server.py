"""A rival whose server streams letters. The model's name says what goes wrong."""

import json

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from benchmarks.rivals.protocol import Adapter, Unfit, serve
from helpers.serving.clients import Loopback


def app(model):
    """An application that answers completions; the model `short` ends each answer early."""
    made = FastAPI()

    @made.post("/v1/completions")
    async def complete(request: Request):
        body = json.loads(await request.body())
        count = body["max_tokens"] - (model == "short")
        return StreamingResponse(events(len(body["prompt"]), count), media_type="text/event-stream")

    return made


async def events(prompt_tokens, count):
    """The events of an answer."""
    for i in range(count):
        choice = {"text": "a", "finish_reason": "length" if i == count - 1 else None}
        yield f"data: {json.dumps({'choices': [choice]})}\n\n"
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": count}
    yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"


class Fake(Adapter):
    packages = ("pip",)

    def listen(self, model, format, threads):
        if model == "absent":
            raise Unfit("this fake has no server")
        self.server = Loopback(app(model)).start()
        return self.server.url


if __name__ == "__main__":
    serve(Fake())
