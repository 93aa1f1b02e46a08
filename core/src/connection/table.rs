//! The connections of a shard, found by slot.

use super::client::Client;
use crate::ids::ConnId;

/// Connections by [`ConnId`]; a look-up under a generation that has passed finds nothing.
#[derive(Debug, Default)]
pub(crate) struct ConnectionTable {
    slots: Vec<Option<Box<Client>>>,
    open: usize,
}

impl ConnectionTable {
    /// Adds a connection.
    ///
    /// # Panics
    ///
    /// If its slot is taken: the runtime chose a name that is in use.
    pub(crate) fn insert(&mut self, client: Client) {
        let slot = client.id.slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        assert!(self.slots[slot].is_none(), "a runtime names a connection like no other open one");
        self.slots[slot] = Some(Box::new(client));
        self.open += 1;
    }

    pub(crate) fn get(&self, id: ConnId) -> Option<&Client> {
        self.slots.get(id.slot as usize)?.as_deref().filter(|client| client.id.generation == id.generation)
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Client> {
        self.slots
            .get_mut(id.slot as usize)?
            .as_deref_mut()
            .filter(|client| client.id.generation == id.generation)
    }

    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Box<Client>> {
        self.get(id)?;
        self.open -= 1;
        self.slots[id.slot as usize].take()
    }

    /// Returns the number of connections.
    pub(crate) fn len(&self) -> usize {
        self.open
    }

    /// Returns the connections in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.slots.iter().filter_map(Option::as_deref)
    }
}
