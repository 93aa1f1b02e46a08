//! Binds natrix-core to real sockets, TLS, disks and timers.
