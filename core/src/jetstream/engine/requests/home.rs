//! What the home engine decides: which streams there are, and where. What it has decided it orders the engine that has the
//! stream, or is to have it; what concerns many streams it asks all engines for.
//!
//! Source: nats-server `server/jetstream_api.go`, the functions `jsStream*Request` and `jsAccountInfoRequest`.

use std::sync::Arc;

use super::{Asked, Exchange, JetStream};
use crate::jetstream::api::backup::RestoreRequest;
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::limits::{Reservation, check_reservation, check_reservation_of_update};
use crate::jetstream::api::read::unmarshal_request;
use crate::jetstream::api::request::{StreamsRequest, expect_empty};
use crate::jetstream::api::response::{
    AccountInfoBody, AccountPurgeBody, AccountStats, ApiStats, LIST_LIMIT, NAMES_LIMIT, Page,
    StreamCreateBody, StreamDeleteBody, StreamInfo, StreamListBody, StreamNamesBody, StreamRestoreBody,
    StreamUpdateBody, Tier,
};
use crate::jetstream::api::stream_config::{StreamConfig, StreamRequest};
use crate::jetstream::api::subject::has_path_separator;
use crate::jetstream::engine::directory::{Directory, Gather, Gathered, Waiting};
use crate::jetstream::engine::said::{Admission, Count, EngineId, Order, Said, Standing};
use crate::storage::StorageKind;
use crate::time::Now;

/// How many restores one server takes at a time.
///
/// Differs: the reference takes any number.
const MOST_RESTORES: usize = 64;

/// What a request to create a stream leads to.
enum Create {
    /// It is there already.
    There(EngineId),
    New(Arc<StreamConfig>),
}

/// An engine, and what it is to be told.
type Told = (EngineId, Said);

impl JetStream {
    /// Returns which streams there are; the home engine knows.
    fn directory(&self) -> &Directory {
        self.home.as_ref().expect("a request that the home engine decides is passed on to it")
    }

    fn directory_mut(&mut self) -> &mut Directory {
        self.home.as_mut().expect("a request that the home engine decides is passed on to it")
    }

    /// Keeps a request about a stream that an order is under way for, until that is over. As in the reference, more than may
    /// wait isn't answered at all.
    fn waits_in_line(&mut self, name: &str, asked: &Asked) -> bool {
        let most = self.request_queue_limit;
        let Some(line) = self.directory_mut().line_of(asked.account, name) else { return false };
        if line.len() < most {
            line.push_back(Waiting::Asked(asked.clone()));
        }
        true
    }

    /// Tells an engine what was decided, or says why it wasn't.
    fn decided<B: crate::jetstream::api::response::Body>(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        asked: &Asked,
        decided: Result<Told, ApiError>,
    ) {
        match decided {
            Ok((to, said)) => self.say(now, exchange, to, said),
            Err(error) => self.respond_error::<B>(now, exchange, asked, error),
        }
    }

    pub(super) fn stream_create(&mut self, now: Now, exchange: &mut Exchange, name: &str, asked: &Asked) {
        if self.waits_in_line(name, asked) {
            return;
        }
        let decided = self.check_create(name, asked).map(|create| match create {
            Create::There(engine) => (engine, Said::Again(self.sendable(exchange, asked), name.to_owned())),
            Create::New(config) => {
                let engine = self.directory().place(exchange.shards());
                let order = self.directory_mut().create(engine, asked.account, &config);
                (engine, Said::Create(order, self.sendable(exchange, asked), config))
            }
        });
        self.decided::<StreamCreateBody>(now, exchange, asked, decided);
    }

    fn check_create(&self, name: &str, asked: &Asked) -> Result<Create, ApiError> {
        self.admit(asked)?;
        let mut request: StreamRequest = unmarshal_request(&asked.body, self.strict)?;
        request.prepare_create(name)?;
        let limits = self.limits_of(asked.account);
        let there = self.directory().find(asked.account, name);
        // As in the reference, what was asked for counts here, before defaults are filled in.
        let count = self.directory().streams(asked.account).count();
        let most = usize::try_from(limits.max_streams).ok().filter(|most| *most > 0);
        if most.is_some_and(|most| count >= most) && there.is_none() {
            return Err(ErrorKind::MaximumStreamsLimit.error());
        }
        let reserved = self.reserved(asked.account, request.config.storage, name);
        check_reservation(&request.config, request.config.max_bytes, &limits, reserved)?;
        let config = request.check(&self.limits, &limits)?;
        config.check_single_server()?;
        if let Some(there) = there {
            return match there.config.is_same_request(&config) {
                true => Ok(Create::There(there.engine)),
                false => Err(ErrorKind::StreamNameExist.error()),
            };
        }
        if self.directory().is_restoring(asked.account, name) {
            return Err(ErrorKind::StreamNameExist.error());
        }
        // A stream without a limit needs a byte, which an account that may have none hasn't got.
        check_reservation(&config, config.max_bytes, &limits, reserved)?;
        config.check_features()?;
        self.directory().check_subjects(asked.account, &config)?;
        Ok(Create::New(Arc::new(config)))
    }

    /// Returns what is reserved of a kind of storage, without what one stream of the account has.
    fn reserved(&self, account: u32, kind: StorageKind, but: &str) -> Reservation {
        Reservation { server_max: self.server_max(kind), ..self.directory().reserved(account, kind, but) }
    }

    pub(super) fn stream_update(&mut self, now: Now, exchange: &mut Exchange, name: &str, asked: &Asked) {
        if self.waits_in_line(name, asked) {
            return;
        }
        let decided = self.check_update(name, asked).and_then(|config| {
            let next = Some(Arc::clone(&config));
            let (engine, order) = self.order_change(asked.account, name, next)?;
            Ok((engine, Said::Update(order, self.sendable(exchange, asked), config)))
        });
        self.decided::<StreamUpdateBody>(now, exchange, asked, decided);
    }

    fn order_change(
        &mut self,
        account: u32,
        name: &str,
        next: Option<Arc<StreamConfig>>,
    ) -> Result<(EngineId, Order), ApiError> {
        let ordered = self.directory_mut().change(account, name, next);
        ordered.ok_or_else(|| ErrorKind::StreamNotFound.error())
    }

    /// Checks what there is to be checked but for the stream's consumers, of which its engine knows.
    fn check_update(&self, name: &str, asked: &Asked) -> Result<Arc<StreamConfig>, ApiError> {
        self.admit(asked)?;
        let request: StreamRequest = unmarshal_request(&asked.body, self.strict)?;
        let limits = self.limits_of(asked.account);
        let config = request.check_update(name, &self.limits, &limits)?;
        let there = self.directory().find(asked.account, name);
        let there = there.ok_or_else(|| ErrorKind::StreamNotFound.error())?;
        let config = there.config.check_update(config)?;
        config.check_features()?;
        let reserved = self.reserved(asked.account, config.storage, name);
        check_reservation_of_update(&there.config, &config, &limits, reserved)?;
        self.directory().check_subjects(asked.account, &config)?;
        Ok(Arc::new(config))
    }

    pub(super) fn stream_delete(&mut self, now: Now, exchange: &mut Exchange, name: &str, asked: &Asked) {
        if self.waits_in_line(name, asked) {
            return;
        }
        let decided = self.admit(asked).and_then(|()| {
            expect_empty(&asked.body)?;
            let there = self.directory().find(asked.account, name);
            there.ok_or_else(|| ErrorKind::StreamNotFound.error())?;
            let (engine, order) = self.order_change(asked.account, name, None)?;
            Ok((engine, Said::Delete(order, Some(self.sendable(exchange, asked)))))
        });
        self.decided::<StreamDeleteBody>(now, exchange, asked, decided);
    }

    pub(super) fn stream_restore(&mut self, now: Now, exchange: &mut Exchange, name: &str, asked: &Asked) {
        let decided = self.check_restore(name, asked).map(|config| {
            let account = asked.account;
            let checked = config.check_single_server().and_then(|()| config.check_features());
            let refused = checked.and_then(|()| self.directory().check_subjects(account, &config)).err();
            let reserved = self.reserved(account, config.storage, "");
            let (engine, config) = (self.directory().place(exchange.shards()), Arc::new(config));
            let order = self.directory_mut().restore(engine, account, &config, refused.is_some());
            let admission = Admission { reserved, refused };
            (engine, Said::Restore(order, self.sendable(exchange, asked), config, admission))
        });
        self.decided::<StreamRestoreBody>(now, exchange, asked, decided);
    }

    fn check_restore(&self, name: &str, asked: &Asked) -> Result<StreamConfig, ApiError> {
        self.admit(asked)?;
        let mut request = RestoreRequest::parse(&asked.body, self.strict)?.stream;
        if request.config.name.is_empty() {
            name.clone_into(&mut request.config.name);
        }
        if request.config.name != name {
            return Err(ErrorKind::StreamMismatch.error());
        }
        if has_path_separator(name) {
            return Err(ErrorKind::StreamNameContainsPathSeparators.error());
        }
        let limits = self.limits_of(asked.account);
        let config = request.check(&self.limits, &limits)?;
        let most = usize::try_from(limits.max_streams).ok().filter(|most| *most > 0);
        let (restores, of_all) = self.directory().restores(asked.account);
        let count = self.directory().streams(asked.account).count() + restores;
        if most.is_some_and(|most| count >= most) {
            return Err(ErrorKind::MaximumStreamsLimit.error());
        }
        let reserved = self.reserved(asked.account, config.storage, "");
        check_reservation(&config, config.max_bytes, &limits, reserved)?;
        let directory = self.directory();
        if directory.find(asked.account, name).is_some() || directory.is_restoring(asked.account, name) {
            return Err(ErrorKind::StreamNameExistRestoreFailed.error());
        }
        match of_all < MOST_RESTORES {
            true => Ok(config),
            false => Err(ErrorKind::InsufficientResources.error()),
        }
    }

    pub(super) fn stream_names(&mut self, now: Now, exchange: &mut Exchange, asked: &Asked) {
        let result = self.admit(asked).and_then(|()| {
            let request = StreamsRequest::parse_names(&asked.body, self.strict)?;
            let names = self.directory().streams_with(asked.account, &request.subject);
            let (page, range) = Page::new(names.len(), request.offset, NAMES_LIMIT);
            Ok(StreamNamesBody { page, streams: names[range].to_vec() })
        });
        self.respond(now, exchange, asked, &result);
    }

    /// Has the engines describe their streams of one page of the list.
    pub(super) fn stream_list(&mut self, now: Now, exchange: &mut Exchange, asked: &Asked) {
        let request = self.admit(asked).and_then(|()| StreamsRequest::parse_list(&asked.body, self.strict));
        let request = match request {
            Ok(request) => request,
            Err(error) => return self.respond_error::<StreamListBody>(now, exchange, asked, error),
        };
        let account = asked.account;
        let names = self.directory().streams_with(account, &request.subject);
        let (page, range) = Page::new(names.len(), request.offset, LIST_LIMIT);
        let mut parts: std::collections::BTreeMap<EngineId, Vec<String>> = std::collections::BTreeMap::new();
        for name in &names[range] {
            if let Some(entry) = self.directory().find(account, name) {
                parts.entry(entry.engine).or_default().push(name.clone());
            }
        }
        let id = self.gather(exchange, asked, parts.len(), Gathered::Streams(page, Vec::new()));
        if parts.is_empty() {
            return self.gathered(now, exchange, id);
        }
        for (engine, names) in parts {
            self.say(now, exchange, engine, Said::List { id, account, names });
        }
    }

    /// Has all engines say what they have of an account.
    pub(super) fn account_info(&mut self, now: Now, exchange: &mut Exchange, asked: &Asked) {
        if let Err(error) = self.admit(asked) {
            return self.respond_error::<AccountInfoBody>(now, exchange, asked, error);
        }
        let engines: Vec<EngineId> = EngineId::all(self.engines).collect();
        let id = self.gather(exchange, asked, engines.len(), Gathered::Account(Count::default()));
        for engine in engines {
            self.say(now, exchange, engine, Said::Count { id, account: asked.account });
        }
    }

    fn gather(&mut self, exchange: &Exchange, asked: &Asked, left: usize, what: Gathered) -> u64 {
        let asked = self.sendable(exchange, asked);
        let directory = self.directory_mut();
        directory.next_gather += 1;
        let gather = Gather { asked, left: left as u32, what };
        directory.gathers.insert(directory.next_gather, gather);
        directory.next_gather
    }

    /// An engine says what its streams are.
    pub(in super::super) fn listed(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        id: u64,
        listed: Vec<StreamInfo>,
    ) {
        let Some(gather) = self.directory_mut().gathers.get_mut(&id) else { return };
        gather.left -= 1;
        if let Gathered::Streams(_, streams) = &mut gather.what {
            streams.extend(listed);
        }
        self.gathered(now, exchange, id);
    }

    /// An engine says what it has of an account.
    pub(in super::super) fn counted(&mut self, now: Now, exchange: &mut Exchange, id: u64, count: Count) {
        let Some(gather) = self.directory_mut().gathers.get_mut(&id) else { return };
        gather.left -= 1;
        if let Gathered::Account(sum) = &mut gather.what {
            sum.memory += count.memory;
            sum.store += count.store;
            sum.consumers += count.consumers;
            sum.api_total += count.api_total;
            sum.api_errors += count.api_errors;
        }
        self.gathered(now, exchange, id);
    }

    /// Answers what engines were asked for, if all have answered.
    fn gathered(&mut self, now: Now, exchange: &mut Exchange, id: u64) {
        let gathers = &mut self.directory_mut().gathers;
        if gathers.get(&id).is_none_or(|gather| gather.left > 0) {
            return;
        }
        let Some(Gather { asked, what, .. }) = gathers.remove(&id) else { return };
        match what {
            Gathered::Streams(page, mut streams) => {
                streams.sort_by(|one, other| one.config.name.cmp(&other.config.name));
                let body = StreamListBody { page, streams, ..StreamListBody::default() };
                self.respond(now, exchange, &asked, &Ok(body));
            }
            Gathered::Account(count) => {
                let body = AccountInfoBody { stats: Some(self.account_stats(asked.account, count)) };
                self.respond(now, exchange, &asked, &Ok(body));
            }
        }
    }

    fn account_stats(&self, account: u32, count: Count) -> AccountStats {
        let reserved = |kind| {
            let of_kind = self.directory().streams(account).filter(|(_, entry)| entry.config.storage == kind);
            of_kind.map(|(_, entry)| u64::try_from(entry.config.max_bytes).unwrap_or(0)).sum()
        };
        let total = Tier {
            memory: count.memory,
            store: count.store,
            reserved_memory: reserved(StorageKind::Memory),
            reserved_store: reserved(StorageKind::File),
            streams: self.directory().streams(account).count() as u64,
            consumers: count.consumers,
            limits: self.limits_of(account),
        };
        AccountStats {
            total,
            domain: self.domain.clone(),
            // This request is one of them once it is answered.
            api: ApiStats::new(count.api_total, count.api_errors),
            tiers: std::collections::BTreeMap::new(),
        }
    }

    /// Has all streams of an account deleted. One that can't be told to its catalogue stays.
    pub(super) fn account_purge(&mut self, now: Now, exchange: &mut Exchange, account: &str, asked: &Asked) {
        if let Some(account) = self.accounts.iter().position(|known| *known.name == *account) {
            let names = self.directory().streams_with(account as u32, "");
            for name in names {
                self.purge_one(now, exchange, account as u32, &name);
            }
        }
        self.respond(now, exchange, asked, &Ok(AccountPurgeBody { initiated: true }));
    }

    fn purge_one(&mut self, now: Now, exchange: &mut Exchange, account: u32, name: &str) {
        if let Some(line) = self.directory_mut().line_of(account, name) {
            return line.push_back(Waiting::Purge);
        }
        if let Ok((engine, order)) = self.order_change(account, name, None) {
            self.say(now, exchange, engine, Said::Delete(order, None));
        }
    }

    /// An order is carried out: what waited for it is decided now.
    pub(in super::super) fn settled(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        order: &Order,
        standing: Standing,
    ) {
        for waiting in self.directory_mut().settled(order, standing) {
            match waiting {
                Waiting::Asked(asked) => self.request(now, exchange, asked),
                Waiting::Purge if self.directory().find(order.account, &order.stream).is_some() => {
                    self.purge_one(now, exchange, order.account, &order.stream);
                }
                Waiting::Purge => {}
            }
        }
    }
}
