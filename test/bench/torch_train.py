"""PyTorch's side of test/bench/train.ts: real training steps on request, one JSON object per line.

stdin: {"type": "check", "file": F} | {"type": "steps", "count": n} | {"type": "exit"}
stdout: {"type": "ready", ...} at the start, then one answer per request.
"""

import argparse
import json
import platform
import resource
import sys
import time

import numpy
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import torch_networks


def resident_bytes(field):
    """Memory of this process as the kernel counts it: VmRSS now, VmHWM at most."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith(field):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def cuda_library_bytes():
    """Resident parts of CUDA's libraries: PyPI's package for Linux loads them even where there is no GPU."""
    total = 0
    try:
        with open("/proc/self/smaps", encoding="utf-8") as maps:
            is_cuda = False
            for line in maps:
                fields = line.split()
                if not fields[0].endswith(":"):
                    is_cuda = len(fields) > 5 and ("/nvidia/" in fields[5] or "cuda" in fields[5])
                elif is_cuda and fields[0] == "Rss:":
                    total += int(fields[1]) * 1024
    except OSError:
        pass
    return total


def read_pictures(path, side, channels_last):
    """uint8 [count, 3, side, side] in the layout that the network takes, so that a step only converts."""
    rows = torch.from_numpy(numpy.fromfile(path, dtype=numpy.uint8)).view(-1, side, side, 3)
    planes = rows.permute(0, 3, 1, 2)
    return planes if channels_last else planes.contiguous()


class Trainer:
    def __init__(self, options):
        with open(f"{options.folder}/description.json", encoding="utf-8") as file:
            self.description = json.load(file)
        model, self.parameters = torch_networks.build_classifier(
            self.description,
            load_file(self.description["modelFile"]),
            load_file(f"{options.folder}/parameters.safetensors"),
            fused=not options.separate,
        )
        model.train()
        if options.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.model = torch.compile(model) if options.compile else model
        self.batch = self.description["batch"]
        self.micro_batch = options.micro_batch or self.batch
        self.pictures = read_pictures(
            f"{options.folder}/pictures.bin", self.description["side"], options.channels_last
        )
        self.classes = self.description["classes"]
        training = self.description["training"]
        self.clip_norm = training["clipNorm"]
        factors = [p for name, p in self.parameters.items() if not name.startswith("head.")]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": factors, "lr": training["learningRate"], "weight_decay": training["weightDecay"]},
                {"params": [self.parameters["head.weight"]], "lr": training["headLearningRate"],
                 "weight_decay": training["weightDecay"]},
                {"params": [self.parameters["head.bias"]], "lr": training["headLearningRate"],
                 "weight_decay": 0.0},
            ],
            fused=True,
        )
        self.step_number = 0

    def gradients(self, step):
        """Loss of one batch; leaves the gradients in the parameters."""
        total = 0.0
        for start in range(0, self.batch, self.micro_batch):
            index = torch.arange(start, start + self.micro_batch)
            index = (index + step * self.batch) % len(self.pictures)
            pixels = self.pictures[index].float()
            share = self.micro_batch / self.batch
            loss = F.cross_entropy(self.model(pixels), index % self.classes) * share
            loss.backward()
            total += loss.item()
        return total

    def check(self, file):
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.gradients(0)
        save_file({name: p.grad.contiguous() for name, p in self.parameters.items()}, file)
        self.optimiser.zero_grad(set_to_none=True)
        return {"type": "checked", "loss": loss}

    def steps(self, count):
        optimiser_seconds = 0.0
        loss = 0.0
        begin = time.perf_counter()
        for _ in range(count):
            self.optimiser.zero_grad(set_to_none=True)
            loss = self.gradients(self.step_number)
            before = time.perf_counter()
            torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.clip_norm)
            self.optimiser.step()
            optimiser_seconds += time.perf_counter() - before
            self.step_number += 1
        seconds = time.perf_counter() - begin
        return {"type": "stepped", "seconds": seconds, "optimiserSeconds": optimiser_seconds, "loss": loss}


def reply(message):
    message["peakBytes"] = resident_bytes("VmHWM")
    print(json.dumps(message), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--micro-batch", type=int, default=0)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--separate", action="store_true", help="q, k and v as three layers")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    imported_bytes = resident_bytes("VmRSS")
    torch.set_num_threads(options.threads)
    torch.set_num_interop_threads(1)
    begin = time.perf_counter()
    trainer = Trainer(options)
    reply({
        "type": "ready",
        "importedBytes": imported_bytes,
        "cudaLibraryBytes": cuda_library_bytes(),
        "prepareSeconds": time.perf_counter() - begin,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    })
    for line in sys.stdin:
        request = json.loads(line)
        if request["type"] == "check":
            reply(trainer.check(request["file"]))
        elif request["type"] == "steps":
            reply(trainer.steps(request["count"]))
        else:
            return


if __name__ == "__main__":
    main()
