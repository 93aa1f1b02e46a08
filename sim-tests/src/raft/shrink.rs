//! From a seed that fails to the few deeds that it takes.
//!
//! The run is repeated from the deeds that it noted, with some of them left out; what still breaks the same rule is kept.
//! First whole kinds go, then the settings, then ever smaller pieces of the rest (delta debugging), then the time between
//! those that are left.

use std::time::Duration;

use natrix_core::planted::Bug;
use natrix_core::rng::Rng;

use super::checker::{Rule, Violation};
use super::deed::Deed;
use super::net::MS;
use super::plan::{Fault, Last, Plan};
use super::script::{Base, Script};
use super::world::{Report, SECOND, Tell, run_noted};
use crate::stopwatch::Stopwatch;

/// A failing run, made small.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What is left.
    pub script: Script,
    /// How it fails.
    pub violation: Violation,
    /// How many deeds there were at first.
    pub deeds_before: usize,
    /// How many runs it took.
    pub runs: u64,
    /// How much processor time it took.
    pub took: Duration,
}

/// As few as anybody wants to read; more are worth all the time that there is.
const FEW: usize = 30;

/// Looks for less that fails the same way.
struct Shrinker {
    bug: Option<Bug>,
    rule: Rule,
    best: Script,
    violation: Violation,
    runs: u64,
    dice: Rng,
    watch: Stopwatch,
    /// When to stop, in processor time.
    deadline: Duration,
}

/// Runs a seed, and returns the script that repeats it, with how it ended.
pub fn noted(seed: u64, bug: Option<Bug>) -> (Script, Report) {
    noted_for(seed, bug, None)
}

/// Runs a seed whose faults end after `most` nanoseconds, if that is before they would.
fn noted_for(seed: u64, bug: Option<Bug>, most: Option<u64>) -> (Script, Report) {
    let mut rng = Rng::from_u64(seed);
    let mut plan = Plan::new(seed, &mut rng);
    plan.trouble = plan.trouble.min(most.unwrap_or(u64::MAX));
    let (report, deeds) = run_noted(plan.clone(), rng, bug);
    let base = Base::Seed { without: Vec::new() };
    let (until, last) = (plan.trouble, Some(plan.last));
    (Script { seed, salt: seed, base, deeds, until, last }, report)
}

/// Makes a failing seed small, in about `patience` of processor time; `None` if it doesn't fail.
pub fn shrink(seed: u64, bug: Option<Bug>, patience: Duration) -> Option<Shrunk> {
    let watch = Stopwatch::start();
    let (best, report) = noted(seed, bug);
    let violation = report.violations.into_iter().next()?;
    let deeds_before = best.deeds.len();
    let rule = violation.rule;
    let dice = Rng::from_u64(seed);
    let mut shrinker = Shrinker { bug, rule, best, violation, runs: 0, dice, watch, deadline: patience };
    shrinker.make_small(patience);
    let Shrinker { best, violation, runs, watch, .. } = shrinker;
    Some(Shrunk { script: best, violation, deeds_before, runs, took: watch.elapsed() })
}

impl Shrinker {
    /// Makes it small; if that doesn't get far, makes a short run of another seed small that breaks the same rule.
    fn make_small(&mut self, end: Duration) {
        self.deadline = (self.watch.elapsed() + end) / 2;
        self.reduce();
        let mut seed = self.best.seed;
        while self.best.deeds.len() > FEW && self.watch.elapsed() < end {
            let (best, violation) = (self.best.clone(), self.violation.clone());
            self.deadline = end;
            self.elsewhere(&mut seed);
            let now = self.watch.elapsed();
            self.deadline = ((now + end) / 2).max(now + Duration::from_secs(2)).min(end);
            self.reduce();
            if best.deeds.len() <= self.best.deeds.len() {
                (self.best, self.violation) = (best, violation);
            }
        }
    }

    /// Looks among the first seconds of the seeds from `seed` on for one that breaks the same rule.
    fn elsewhere(&mut self, seed: &mut u64) {
        while !self.late() {
            *seed += 1;
            self.runs += 1;
            let most = (2 + *seed % 4) * SECOND;
            let (script, report) = noted_for(*seed, self.bug, Some(most));
            let Some(violation) = report.violations.into_iter().next() else { continue };
            if violation.rule == self.rule && script.run(None, Tell::Nothing).violations.is_empty() {
                (self.best, self.violation) = (script, violation);
                return;
            }
        }
    }

    fn reduce(&mut self) {
        self.end_early();
        self.without_kinds();
        self.last_seconds();
        self.settle();
        self.fewer_deeds();
        self.settle();
        self.at_random();
        self.fewer_deeds();
        self.simpler_deeds();
        self.less_time();
    }

    fn late(&self) -> bool {
        self.watch.elapsed() >= self.deadline
    }

    /// Keeps `script` if it fails the same way.
    fn try_out(&mut self, script: Script) -> bool {
        if self.late() {
            return false;
        }
        self.runs += 1;
        let report = script.run(self.bug, Tell::Nothing);
        let Some(violation) = report.violations.into_iter().next() else { return false };
        if violation.rule != self.rule {
            return false;
        }
        self.best = script;
        // A panic doesn't know the time.
        if violation.at > 0 && violation.at < self.best.until {
            self.best.until = violation.at + 1;
            self.best.last = None;
            self.best.deeds.retain(|(at, _)| *at <= violation.at);
        }
        self.violation = violation;
        true
    }

    /// What comes after it failed isn't needed.
    fn end_early(&mut self) {
        let whole = self.best.clone();
        self.try_out(whole.clone());
        if self.best.last.is_some() {
            self.try_out(Script { last: Some(Last::Nothing), ..self.best.clone() });
        }
        if self.rule == Rule::Panic {
            // When it came isn't known: halve the time while it still comes.
            let mut step = self.best.until / 2;
            while step > 50 * MS {
                let until = self.best.until - step;
                let mut script = Script { until, last: None, ..self.best.clone() };
                script.deeds.retain(|(at, _)| *at <= until);
                self.try_out(script);
                step /= 2;
            }
        }
    }

    /// The same with other delays and time-outs, if it doesn't fail with these.
    fn try_salts(&mut self, script: &Script, salts: u64) -> bool {
        if self.try_out(script.clone()) {
            return true;
        }
        (0..salts).any(|_| {
            let salt = self.dice.next_u64() >> 40;
            self.try_out(Script { salt, ..script.clone() })
        })
    }

    fn without(&mut self, drop: impl Fn(&Deed) -> bool) -> bool {
        let mut script = self.best.clone();
        script.deeds.retain(|(_, deed)| !drop(deed));
        script.deeds.len() < self.best.deeds.len() && self.try_salts(&script, 10)
    }

    fn without_kinds(&mut self) {
        self.without(|deed| matches!(deed, Deed::Odd { .. }));
        self.without(Deed::is_request);
        let kinds: Vec<_> = self.best.deeds.iter().map(|(_, deed)| std::mem::discriminant(deed)).collect();
        let first = |at: &usize| kinds.iter().position(|kind| *kind == kinds[*at]) == Some(*at);
        for kind in (0..kinds.len()).filter(first).map(|at| kinds[at]) {
            self.without(|deed| std::mem::discriminant(deed) == kind);
        }
    }

    /// Leaves out all but the last seconds, and begins with those: what a group went through before matters seldom, but each
    /// run has to go through it again.
    fn last_seconds(&mut self) {
        for seconds in [1, 2, 4, 8, 16] {
            let gone = self.best.until.saturating_sub((seconds + 1) * SECOND);
            if gone < SECOND || self.best.deeds.len() <= FEW {
                return;
            }
            let mut script = self.best.clone();
            // The first second is for a leader to be elected.
            script.deeds.retain(|(at, _)| *at >= gone + SECOND);
            for (at, deed) in &mut script.deeds {
                if let Deed::Odd { number, .. } = deed {
                    // About as many fewer messages will have been sent by then.
                    *number = (*number as f64 * (*at - gone) as f64 / *at as f64).max(1.0) as u64;
                }
                *at -= gone;
            }
            script.until -= gone;
            if self.try_salts(&script, 200) {
                return;
            }
        }
    }

    /// Replaces the seed's settings by usual ones.
    fn settle(&mut self) {
        if let Base::Calm { .. } = self.best.base {
            return;
        }
        let plan = self.best.plan();
        let calm = Base::Calm { members: plan.members, nodes: plan.nodes };
        if self.try_salts(&Script { base: calm, ..self.best.clone() }, 30) {
            return;
        }
        for setting in [Fault::Drift, Fault::SlowDisk, Fault::SlowApply, Fault::Settings] {
            let Base::Seed { without } = &self.best.base else { return };
            if plan.swarm.has(setting) && !without.contains(&setting) {
                let mut without = without.clone();
                without.push(setting);
                self.try_salts(&Script { base: Base::Seed { without }, ..self.best.clone() }, 5);
            }
        }
    }

    /// Leaves pieces out, ever smaller ones.
    fn fewer_deeds(&mut self) {
        let mut size = self.best.deeds.len().div_ceil(2);
        while size > 0 && !self.late() {
            let mut from = 0;
            let mut less = false;
            while from < self.best.deeds.len() && !self.late() {
                let mut script = self.best.clone();
                let to = (from + size).min(script.deeds.len());
                script.deeds.drain(from..to);
                match self.try_salts(&script, 2) {
                    true => less = true,
                    false => from += size,
                }
            }
            if !less || size > self.best.deeds.len() {
                size /= 2;
            }
        }
    }

    /// Leaves some out anywhere, and tries other delays and time-outs at once: what is left by pieces needs its own.
    fn at_random(&mut self) {
        let mut vain = 0;
        while vain < 4000 && !self.late() {
            let count = self.best.deeds.len() as u64;
            if count <= 3 {
                return;
            }
            let mut script = self.best.clone();
            for _ in 0..self.dice.below(3) {
                self.merge(&mut script);
            }
            if script.deeds.len() == self.best.deeds.len() || self.dice.chance(1, 2) {
                self.leave_some_out(&mut script);
            }
            if self.dice.chance(3, 4) {
                script.salt = self.dice.next_u64() >> 40;
            }
            vain = if self.try_out(script) { 0 } else { vain + 1 };
        }
    }

    fn leave_some_out(&mut self, script: &mut Script) {
        // Few or many, each as likely.
        let count = script.deeds.len() as u64;
        let bits = u64::from(count.max(1).ilog2()) + 1;
        let leave = (1 << self.dice.below(bits)).min(count);
        for _ in 0..leave {
            script.deeds.remove(self.dice.below(script.deeds.len() as u64) as usize);
        }
    }

    /// Leaves out one of two bursts of proposals and lets the other have its entries.
    fn merge(&mut self, script: &mut Script) {
        let bursts: Vec<usize> = (0..script.deeds.len())
            .filter(|at| matches!(script.deeds[*at].1, Deed::Propose { .. }))
            .collect();
        if bursts.len() < 2 {
            return;
        }
        let one = self.dice.below(bursts.len() as u64 - 1) as usize;
        let (mut gone, mut kept) = (bursts[one], bursts[one + 1]);
        if self.dice.chance(1, 2) {
            std::mem::swap(&mut gone, &mut kept);
        }
        let (_, Deed::Propose { count: more, .. }) = script.deeds[gone] else { return };
        if let (_, Deed::Propose { count, .. }) = &mut script.deeds[kept] {
            *count += more;
        }
        script.deeds.remove(gone);
    }

    /// Makes what is left say less: fewer links, no waiting.
    fn simpler_deeds(&mut self) {
        let mut at = 0;
        while at < self.best.deeds.len() && !self.late() {
            if let (_, Deed::Cut { cuts, .. }) = &self.best.deeds[at] {
                for link in (0..cuts.len()).rev() {
                    let mut script = self.best.clone();
                    if let (_, Deed::Cut { cuts, .. }) = &mut script.deeds[at]
                        && cuts.len() > 1
                    {
                        cuts.remove(link);
                        self.try_out(script);
                    }
                    if at >= self.best.deeds.len() {
                        return;
                    }
                }
            }
            at += 1;
        }
    }

    /// Lets less time pass between deeds.
    fn less_time(&mut self) {
        for at in 0..self.best.deeds.len() {
            for share in [1, 2, 4] {
                if at >= self.best.deeds.len() || self.late() {
                    return;
                }
                let before = if at == 0 { 0 } else { self.best.deeds[at - 1].0 };
                let gap = self.best.deeds[at].0 - before;
                if gap < 200 * MS {
                    break;
                }
                let less = gap / share - if share == 1 { 50 * MS } else { 0 };
                let mut script = self.best.clone();
                for (time, deed) in &mut script.deeds[at..] {
                    if !matches!(deed, Deed::Odd { .. }) {
                        *time -= less;
                    }
                }
                script.until -= less;
                script.deeds.sort_by_key(|(time, _)| *time);
                if self.try_out(script) {
                    break;
                }
            }
        }
    }
}
