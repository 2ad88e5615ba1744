"""Detection in any number of images, as a job that can be cut off and goes on where it stopped.

    arguments ── inputs ──► names, in this shard and not done ── detect ──► rows ── parts ──► out/part-000000.ndjson …

Every input has one row. Parts are written whole, so what is in the directory is what is done.
"""
