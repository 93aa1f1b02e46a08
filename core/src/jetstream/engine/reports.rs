//! What is told to those who monitor the server.

use super::assets::{AccountAssets, Phase};
use super::{Exchange, JetStream};
use crate::jetstream::api::request::StreamInfoRequest;
use crate::jetstream::api::response::ApiStats;
use crate::jetstream::context::{Answer, Messages};
use crate::jetstream::report::{AccountDetail, Detail, Report, StreamDetail, Totals};
use crate::storage::{OwnerId, StorageKind};
use crate::time::Now;

impl JetStream {
    /// Says what there is. What would have to be read for it is left out.
    pub(crate) fn report(&mut self, now: Now, exchange: &mut Exchange, detail: &Detail) -> Report {
        let enabled = |account: &&AccountAssets| account.limits.is_some();
        let api_total = self.accounts.iter().map(|account| account.api_total).sum();
        let api_errors = self.accounts.iter().map(|account| account.api_errors).sum();
        let reserved = |kind| u64::try_from(self.reserved_by_all(kind)).unwrap_or(0);
        let totals = Totals {
            memory: self.used.of(StorageKind::Memory),
            store: self.used.of(StorageKind::File),
            reserved_memory: reserved(StorageKind::Memory),
            reserved_store: reserved(StorageKind::File),
            accounts: self.accounts.iter().filter(enabled).count() as u64,
            ha_assets: 0,
            api: ApiStats::new(api_total, api_errors),
        };
        let mut report = Report {
            totals,
            streams: self.streams.len() as u64,
            consumers: self.consumers.len() as u64,
            messages: 0,
            bytes: self.used.of(StorageKind::Memory) + self.used.of(StorageKind::File),
            accounts: Vec::new(),
            recovered: self.running
                && self.knows_all()
                && self.streams.iter().all(|(_, stream)| stream.phase != Phase::Opening),
            broken: Vec::new(),
        };
        let lost = "nothing says which stream or consumer it is since the catalogue was damaged";
        let stray = |owner: &OwnerId| (String::new(), format!("{:016x}", owner.0), lost.to_owned());
        report.broken.extend(self.strays.iter().map(stray));
        for (_, consumer) in &self.consumers {
            if consumer.phase == Phase::Failed
                && let Some(stream) = self.streams.get(consumer.stream)
            {
                let account = self.accounts[consumer.account as usize].name.to_string();
                let reason = format!("its consumer {:?} can't be used", consumer.name);
                report.broken.push((account, stream.config.name.clone(), reason));
            }
        }
        for (_, stream) in &mut self.streams {
            if stream.phase == Phase::Failed {
                let account = self.accounts[stream.account as usize].name.to_string();
                report.broken.push((
                    account,
                    stream.config.name.clone(),
                    "its files can't be used".to_owned(),
                ));
            }
            if let Some(mut view) = stream.view(&mut self.stores)
                && let Answer::Ready(messages) = view.ask(|ledger| Ok(ledger.messages()))
            {
                report.messages += messages;
            }
        }
        if detail.accounts || !detail.account.is_empty() {
            report.accounts = self.account_details(now, exchange, detail);
        }
        report
    }

    fn reserved_by_all(&self, kind: StorageKind) -> i64 {
        let of_kind = self.streams.iter().filter(|(_, stream)| stream.config.storage == kind);
        of_kind.map(|(_, stream)| stream.config.max_bytes.max(0)).sum()
    }

    fn account_details(&mut self, now: Now, exchange: &mut Exchange, detail: &Detail) -> Vec<AccountDetail> {
        let mut details = Vec::new();
        for at in 0..self.accounts.len() {
            let account = &self.accounts[at];
            let wanted = detail.account.is_empty() || *account.name == *detail.account;
            let Some(limits) = account.limits.filter(|_| wanted) else { continue };
            let name = account.name.to_string();
            let totals = Totals {
                memory: account.used.of(StorageKind::Memory),
                store: account.used.of(StorageKind::File),
                // The reference shows its -1, as a number without a sign.
                reserved_memory: limits.max_memory.unwrap_or(u64::MAX),
                reserved_store: limits.max_store.unwrap_or(u64::MAX),
                accounts: 0,
                ha_assets: 0,
                api: ApiStats { level: 0, ..ApiStats::new(account.api_total, account.api_errors) },
            };
            let keys: Vec<usize> = account.streams.values().copied().collect();
            let mut streams = Vec::new();
            for key in keys.into_iter().filter(|_| detail.streams) {
                streams.extend(self.stream_detail(now, exchange, key, detail));
            }
            details.push(AccountDetail { id: name.clone(), name, totals, streams });
        }
        details.sort_by(|one, other| one.name.cmp(&other.name));
        details
    }

    fn stream_detail(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        key: usize,
        detail: &Detail,
    ) -> Option<StreamDetail> {
        let Answer::Ready((info, _)) = self.describe_stream(now, key, &StreamInfoRequest::default()) else {
            return None;
        };
        let keys: Vec<usize> = self.streams[key].consumers.values().copied().collect();
        let mut consumers = Vec::new();
        for key in keys.into_iter().filter(|_| detail.consumers) {
            if let Answer::Ready(Some(info)) = self.describe_consumer(now, exchange, key) {
                consumers.push(info);
            }
        }
        Some(StreamDetail {
            name: info.config.name.clone(),
            created: info.created,
            cluster: info.cluster,
            config: detail.config.then_some(info.config),
            state: info.state,
            consumers,
        })
    }
}
