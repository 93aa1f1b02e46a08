//! A run whose deeds are written down: a named case, or what is left of a seed that failed.

use natrix_core::planted::Bug;
use natrix_core::rng::Rng;

use super::deed::Deed;
use super::plan::{Fault, Last, Plan};
use super::world::{Report, Tell, World, guarded};

/// What a run is made of, but for its deeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// What the seed draws, without these of its settings.
    Seed {
        /// Which are left out.
        without: Vec<Fault>,
    },
    /// So many members of so many nodes, links and disks that do nothing wrong, the usual settings.
    Calm {
        /// How many members there are at first.
        members: usize,
        /// How many nodes.
        nodes: usize,
    },
}

/// A run whose deeds are written down.
#[derive(Clone, Debug)]
pub struct Script {
    /// Settings follow from it.
    pub seed: u64,
    /// Delays, time-outs and how long syncs take follow from it; that of a seed's run is the seed.
    pub salt: u64,
    /// What the run is made of.
    pub base: Base,
    /// What happens, and when, in nanoseconds.
    pub deeds: Vec<(u64, Deed)>,
    /// When faults end.
    pub until: u64,
    /// What comes then; `None`: the run ends there, and nobody looks whether the group gets well.
    pub last: Option<Last>,
}

impl Script {
    /// Returns the run's plan.
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::new(self.seed, &mut Rng::from_u64(self.seed));
        match &self.base {
            Base::Seed { without } => plan.leave_out(without),
            Base::Calm { members, nodes } => plan = Plan::calm(self.seed, *members, *nodes),
        }
        plan.seed = self.salt;
        plan.trouble = self.until;
        plan.last = self.last.unwrap_or(Last::Nothing);
        plan
    }

    /// Runs it, with a planted bug or none.
    pub fn run(&self, bug: Option<Bug>, tell: Tell) -> Report {
        let plan = self.plan();
        guarded(self.seed, bug, || {
            let world = World::new(plan, Rng::from_u64(self.seed), Some(&self.deeds), tell);
            world.run(self.last.is_some())
        })
    }

    /// Returns the Rust test that runs it, called `name`; `planted` names the bug that it needs to fail.
    pub fn test(&self, name: &str, planted: Option<&str>) -> String {
        let mut text = format!("#[test]\nfn {}() {{\n", name.replace('-', "_"));
        let base = match &self.base {
            Base::Seed { without } => {
                let without: Vec<String> = without.iter().map(|fault| format!("Fault::{fault:?}")).collect();
                format!("Base::Seed {{ without: vec![{}] }}", without.join(", "))
            }
            Base::Calm { members, nodes } => format!("Base::Calm {{ members: {members}, nodes: {nodes} }}"),
        };
        let last = self.last.map_or("None".to_owned(), |last| format!("Some(Last::{last:?})"));
        text += "    let script = Script {\n";
        text += &format!(
            "        seed: {},\n        salt: {},\n        base: {base},\n        deeds: vec![\n",
            self.seed, self.salt
        );
        for (at, deed) in &self.deeds {
            text += &format!("            ({at}, {}),\n", deed.code());
        }
        text += &format!("        ],\n        until: {},\n        last: {last},\n    }};\n", self.until);
        text += "    let report = script.run(None, Tell::Nothing);\n";
        text += "    assert!(report.violations.is_empty(), \"{:?}\", report.violations);\n";
        if let Some(planted) = planted {
            text += &format!("    let planted = find(\"{planted}\").expect(\"the bug is in the table\");\n");
            text += "    assert!(!script.run(Some(planted.bug), Tell::Nothing).violations.is_empty());\n";
        }
        text + "}\n"
    }
}
