"""Every claim about speed, as a program that measures it beside the peers.

    python benchmarks/run.py [--only NAME...] [--quick] [--repeat N] [--json OUT] [--png OUT]

Read in this order: `measure` (a stopwatch and what it yields), `libraries` (one adapter for each
library, so that a measurement is written once and runs on all of them), `scenario` (a measurement
and who takes part), then the measurements themselves, one chapter each: `yielding`, `spawning`,
`parking`, `sleeping`, `locking`, `events`, `queues`, `crossing`, `keeping`. `catalogue` lists them,
`targets` says what the project promises, `child` runs one of them in a process of its own, `report`
and `chart` show the outcome, and `run` conducts.

What keeps the comparison fair:

- Each measurement has a fresh process, so that no library profits or suffers from what ran before.
- The libraries take turns within each round, and the order rotates from round to round, so that a
  slow spell of the machine falls on all of them alike.
- The same body of code runs on all libraries that block (`Blocking`), and its `async` twin on both
  event loops. Where a library has its own idiom for something, the idiom is used.
- CPU time is the headline where one process does all the work, because a neighbour on the machine
  disturbs it least; wall time is printed as well.
- The garbage collector stays on, as it is for users.
"""
