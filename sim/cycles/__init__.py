"""Clocks of matrix products on an array with buffers and external memory: schedule, judges, bill.

`product` says what is computed and stored, `plan` cuts it into tile jobs, `events` runs them clock-exactly,
`closed` has closed forms where they hold, `run` puts the figures together.
"""
