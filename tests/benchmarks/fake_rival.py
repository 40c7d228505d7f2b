"""A rival of a few lines: answers follow from prompts alone. The model's name says what goes wrong."""

import os
import sys
import time

from benchmarks.rivals.protocol import Adapter, Unfit, serve


class Fake(Adapter):
    packages = ("pip",)

    def load(self, model, format, threads):
        print("a library's greeting")
        self.model = model
        if format == "bf16":
            raise Unfit("this fake knows no bf16")

    def answers(self, prompts, lengths):
        print("a library's chatter")
        if self.model == "crashing":
            print("the fake's last words", file=sys.stderr)
            os._exit(3)
        if self.model == "slow":
            time.sleep(60)
        if self.model == "failing":
            raise KeyError("no\nsuch thing")
        short = self.model == "short"
        other = self.model == "other"
        return [
            [(sum(prompt) + i + other) % 1000 for i in range(length - short)]
            for prompt, length in zip(prompts, lengths, strict=True)
        ]


if __name__ == "__main__":
    serve(Fake())
