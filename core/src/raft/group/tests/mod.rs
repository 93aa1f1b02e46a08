//! What a group does, told in the words of [`script`].

mod arbitrary;
mod changes;
mod elections;
mod member;
mod messages;
mod replication;
mod requests;
mod script;
mod sleep;
mod snapshots;
mod status;

use script::run;
