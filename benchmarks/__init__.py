"""What crown_exp costs, beside the bare thing: `python -m benchmarks`, told in docs/numbers.md.

One module for each measurement. All of them take their cases in turns in one run, because a shared machine
that slows down must slow every case; they count CPU seconds, because its wall clock is other people's too.
"""
