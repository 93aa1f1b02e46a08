//! What a group does, told in the words of [`script`].

mod changes;
mod elections;
mod messages;
mod replication;
mod script;
mod snapshots;

use script::run;
