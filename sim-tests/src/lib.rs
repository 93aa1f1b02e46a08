//! Failure scenarios, checkers and the explorer natrix-sim.
