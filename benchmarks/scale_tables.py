"""What docs/scale.md shows: Ray beside shards, the reckoning to a hundred million images, and jobs that were killed."""

from __future__ import annotations

from benchmarks.markdown import Results
from detr_onnx.text import markdown_table, short_number

IMAGES = 10**8
DAYS = 7  # in which they are to be done


def ray_table(results: Results) -> str:
    """A row for each way of using all cores, and a sentence on the driver."""
    head = ("", "images a second", "time an image", "start")
    lines = [
        (
            row["title"],
            short_number(row["images_per_s"]) if row["images_per_s"] else "",
            f"{row['relative_to_shards']:.2f}×",
            f"{row['start_s']['median']:.1f} s",
        )
        for row in results["rows"]
    ]
    machine, driver = results["machine"], results["driver"]
    note = (
        f"{results['images']} JPEGs of 640x480, start not counted. Model: {results['model']}; engine: "
        f"{results['engine']}; {machine['processor']}, {machine['cores']} cores; medians of {results['runs']} "
        f"interleaved runs; {results['date']}."
    )
    left_out = "".join(f" Left out: {absent['title']}." for absent in results["left_out"])
    most = (
        f"With actors that answer at once, one driver takes {driver['rows_per_s']:,} rows a second, on the same cores "
        f"as the actors. Over {driver['names']:,} names its memory is {driver['resident_mb']:.0f} MB, and the object "
        f"store takes {driver['object_store_mb']:.1f} MB."
    )
    return f"{markdown_table(head, lines)}\n\n{note}{left_out}\n\n{most}"


def scale_table(results: Results) -> str:
    """Hours, cores and cost of a hundred million images, from each row's rate on one machine."""
    cores, core_hour, hosted = results["threads"], results["core_hour_dollars"], results["hosted_dollars"]
    head = (
        f"{IMAGES:,} images", f"hours on {cores} cores", "core-hours", f"cores for {DAYS} days",
        f"cost at ${core_hour:g} a core-hour", "as much as the hosted API at",
    )  # fmt: skip
    lines = []
    for row in results["rows"]:
        if row["images_per_s"]:
            hours = IMAGES / row["images_per_s"] / 3600
            lines.append(
                (
                    row["title"],
                    f"{hours:,.0f}",
                    f"{hours * cores:,.0f}",
                    f"{hours * cores / (24 * DAYS):,.0f}",
                    f"${hours * cores * core_hour:,.0f}",
                    f"${IMAGES * hosted / (hours * cores):.3f} a core-hour",
                )
            )
    per_s = max((row["images_per_s"] for row in results["rows"] if row["images_per_s"]), default=None)
    note = f"The hosted API takes ${hosted:.7f} an image: ${IMAGES * hosted:,.0f}."
    if per_s:
        machines = results["driver"]["rows_per_s"] / per_s
        note += f" One driver of Ray keeps up with {machines:,.0f} such machines."
    return f"{markdown_table(head, lines)}\n\n{note}"


def ray_kill_sentence(results: Results) -> str:
    """What killed jobs left."""
    kills = ", ".join(f"{count} {kind}s" for kind, count in sorted(results["kills"].items()))
    return (
        f"SIGKILL at random moments of jobs over {results['images']:,} images on {results['nodes']} nodes: {kills}; "
        f"{results['jobs']} jobs, {len(results['faults'])} faults (`python -m tests.ray.kill`)."
    )
