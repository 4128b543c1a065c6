"""The room of history: what was counted, by the minute, kept over restarts and for all processes together.

    tally.py     what one process counted and did not write down yet; in memory
    database.py  the file: buckets of three widths, added to by every process, bounded
    reading.py   what a chart asks of it
    recorder.py  the thread that writes, away from every request

It may forget, and nobody waits for it: an answer is never late or lost because history cannot be written.
"""
