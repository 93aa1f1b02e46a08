//! Saying what happens to whoever listens. Nothing is written while nobody does.

use super::requests::Asked;
use super::{Exchange, JetStream};
use crate::jetstream::api::advisory::{
    Action, ApiAudit, ClientInfo, ConsumerAction, Event, StreamAction, Topic, payload,
};
use crate::jetstream::context::Outgoing;
use crate::time::Now;

impl JetStream {
    /// Says that something happened.
    pub(super) fn advise<E: Event>(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        (account, topic, names): (u32, Topic, &[&str]),
        event: &E,
    ) {
        let to = topic.subject(names);
        if exchange.has_interest(account, &to) {
            let payload = payload(event, self.nuid.next_id(), now.wall);
            exchange.publish_own(now.instant, account, &Outgoing { to, payload, ..Outgoing::default() });
        }
    }

    /// Says that a stream was made, changed or removed.
    pub(super) fn advise_stream(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        account: u32,
        stream: &str,
        action: Action,
    ) {
        let topic = match action {
            Action::Create => Topic::StreamCreated,
            Action::Delete => Topic::StreamDeleted,
            Action::Modify => Topic::StreamUpdated,
        };
        let domain = self.domain.clone();
        let event = StreamAction { stream, action, domain: &domain };
        self.advise(now, exchange, (account, topic, &[stream]), &event);
    }

    /// Says that a consumer was made or removed.
    pub(super) fn advise_consumer(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        account: u32,
        (stream, consumer): (&str, &str),
        action: Action,
    ) {
        let topic = if action == Action::Delete { Topic::ConsumerDeleted } else { Topic::ConsumerCreated };
        let domain = self.domain.clone();
        let event = ConsumerAction { stream, consumer, action, domain: &domain };
        self.advise(now, exchange, (account, topic, &[stream, consumer]), &event);
    }

    /// Says what was asked and answered.
    pub(super) fn audit(&mut self, now: Now, exchange: &mut Exchange, asked: &Asked, response: &[u8]) {
        if !exchange.has_interest(asked.account, Topic::Api.prefix().as_bytes()) {
            return;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (subject, request, response) = (text(&asked.subject), text(&asked.body), text(response));
        let client = self.client_info(exchange, asked);
        let (server, domain) = (self.server_name.clone(), self.domain.clone());
        let event = ApiAudit {
            server: &server,
            client,
            subject: &subject,
            request: &request,
            response: &response,
            domain: &domain,
        };
        self.advise(now, exchange, (asked.account, Topic::Api, &[]), &event);
    }

    /// Returns what is known of who asked.
    pub(super) fn client_info(&self, exchange: &Exchange, asked: &Asked) -> Option<ClientInfo> {
        match &asked.client {
            Some(client) => Some(ClientInfo::new(client, &self.server_name)),
            None => Some(ClientInfo::new(&exchange.describe_client(asked.origin)?, &self.server_name)),
        }
    }
}
