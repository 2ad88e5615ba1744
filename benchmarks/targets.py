"""The targets of speed, memory and agreement, and which of them the results reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.markdown import Results

DIFFERENT_AT_MOST = {
    "onnxruntime-int8": 0.02,
    "openvino-int8": 0.02,
    "onnxruntime-fp16": 0.005,
    "onnxruntime-fp16-weights": 0.005,
    "openvino-fp32-bf16-mixed": 0.01,
    "openvino-fp32-bf16-backbone": 0.005,
}
"""Largest share of detections above 0.5 on the held-out scenes that may differ, by key of the accuracy table."""
AP_LOST_AT_MOST = {"openvino-fp32-bf16-mixed": 0.001, "onnxruntime-int8": 0.005}


def bars(results: Mapping[str, Results]) -> list[str]:
    """A line for each target: what was measured, the target, and whether it is reached."""
    ratios = [
        ratio | {"part": f"{ratio['part']}{suffix}"}
        for name, suffix in (("latency", ""), ("latency-without-amx", ", without AMX"), ("precisions", ""))
        for ratio in results.get(name, {}).get("ratios", ())
    ]
    peaks = [row for row in results.get("memory", {}).get("rows", ()) if row["at_most_mb"]]
    growth = results.get("sizes", {}).get("rows", ())
    installed = {row["key"]: row["mb"] for row in results.get("install", {}).get("rows", ())}
    theirs = installed.get("transformers")
    return [
        *(
            _bar(f"{r['ours']} / {r['theirs']}, {r['part']}", r["ratio"]["median"], r["at_most"])
            for r in ratios
            if r["at_most"]
        ),
        *(_bar(f"{row['key']}, peak MB", row["peak_mb"]["median"], row["at_most_mb"]) for row in peaks),
        *(_bar(f"{row['key']}, memory over sizes", row["growth"], row["at_most"]) for row in growth),
        *_agreement_bars(results.get("accuracy", {}).get("rows", ())),
        *([_bar("installed, of torch's", installed["core"] / theirs, results["install"]["at_most"])] if theirs else []),
    ]


def _agreement_bars(rows: Sequence[Results]) -> list[str]:
    """Agreement of each precision with float32, and the AP that it loses."""
    by_key = {row["key"]: row for row in rows}
    lines = [
        _bar(f"{key}, detections that differ", 1 - by_key[key]["identical"], at_most)
        for key, at_most in DIFFERENT_AT_MOST.items()
        if key in by_key
    ]
    lines += [
        _bar(f"{key}, AP lost", by_key["onnxruntime-fp32"]["AP"] - by_key[key]["AP"], at_most)
        for key, at_most in AP_LOST_AT_MOST.items()
        if key in by_key
    ]
    return lines


def _bar(title: str, measured: float, at_most: float) -> str:
    return f"{'reached' if measured <= at_most else 'missed '}  {title}: {measured:.4g}, at most {at_most:g}"
