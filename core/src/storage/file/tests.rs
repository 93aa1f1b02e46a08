//! A store in files against the same stream in memory: whatever is asked of it, whatever it is written with, and wherever
//! the power fails.

mod crash_disk;
mod damage;
mod model;
mod world;
