"""The aggregation of aggregate-run.ts in NumPy: dense sum of the products and a full SVD of each layer.

    python aggregate_numpy.py FOLDER SITES RANK

Reads the states one after another, as safetensors files. Compares its result with `result.safetensors` and prints
cost and comparison as JSON.
"""
import json
import re
import sys
import time
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file


def resident_bytes(field):
    try:
        match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
        return int(match.group(1)) * 1024
    except (OSError, AttributeError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def examples_of(site):
    return 20 + (site * 37) % 181


def aggregate(folder, sites, rank, dtype):
    """Best approximations of rank `rank` by module, as (B, A, kept energy, energy)."""
    sums = {}
    total = 0
    for site in range(sites):
        file = folder / f"site-{site:04d}.safetensors"
        with safe_open(file, "np") as handle:
            scales = {name: entry["scale"] for name, entry in json.loads(handle.metadata()["lora"]).items()}
        tensors = load_file(file)
        weight = examples_of(site)
        total += weight
        for module, scale in scales.items():
            a = tensors[f"lora.{module}.lora_A.weight"].astype(dtype)
            b = tensors[f"lora.{module}.lora_B.weight"].astype(dtype)
            product = (b * dtype(weight * scale)) @ a
            if module in sums:
                sums[module] += product
            else:
                sums[module] = product
    results = {}
    for module, value in sums.items():
        u, s, vt = np.linalg.svd(value / dtype(total), full_matrices=False)
        root = np.sqrt(s[:rank])
        kept, energy = float(np.sum(np.float64(s[:rank]) ** 2)), float(np.sum(np.float64(s) ** 2))
        results[module] = (u[:, :rank] * root, root[:, None] * vt[:rank], kept, energy)
    return results


def compare(results, file):
    """Largest distance between both sides' products, relative to their size, and between kept energies."""
    with safe_open(file, "np") as handle:
        scales = {name: entry["scale"] for name, entry in json.loads(handle.metadata()["lora"]).items()}
    ours = load_file(file)
    distance, energy_distance = 0.0, 0.0
    for module, (b, a, kept, _) in results.items():
        mine = ours[f"lora.{module}.lora_B.weight"].astype(np.float64) @ ours[f"lora.{module}.lora_A.weight"]
        mine *= scales[module]
        theirs = b @ a
        distance = max(distance, float(np.linalg.norm(mine - theirs) / np.linalg.norm(theirs)))
        energy_distance = max(energy_distance, abs(float(np.sum(mine**2)) - kept) / kept)
    return distance, energy_distance


def main():
    folder, sites, rank = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    costs = {}
    for name, dtype in (("float32", np.float32), ("float64", np.float64)):
        cpu, wall = time.process_time(), time.perf_counter()
        results = aggregate(folder, sites, rank, dtype)
        costs[name] = {
            "cpuSeconds": time.process_time() - cpu,
            "wallSeconds": time.perf_counter() - wall,
            # Of the process so far; float32 comes first.
            "peakBytes": resident_bytes("VmHWM"),
        }
    distance, energy_distance = compare(results, folder / "result.safetensors")
    kept = sum(kept for _, _, kept, _ in results.values())
    energy = sum(energy for _, _, _, energy in results.values())
    print(
        json.dumps(
            {
                "costs": costs,
                "distance": distance,
                "energyDistance": energy_distance,
                "energyKept": kept / energy,
                "versions": {"python": sys.version.split()[0], "numpy": np.__version__},
            }
        )
    )


main()
