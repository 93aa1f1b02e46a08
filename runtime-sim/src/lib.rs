//! Binds natrix-core to a seeded network, disks and clocks.
