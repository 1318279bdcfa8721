//! What holds for the agent as a whole: what the machine must offer before any work is taken, and how many tasks fit into
//! what all of them together may use.

use super::Policy;
use super::facts::Machine;
use super::rules::{AgentLimits, Cpu, SandboxRules};
use crate::plan::Limits;
use cortex_model::{Code, Fault};

impl Policy {
    /// Why this machine takes no work under this policy: it lacks what `sandbox.require` names.
    #[must_use]
    pub fn unmet(&self, machine: &Machine) -> Option<Fault> {
        unmet(self.sandbox()?, machine)
    }

    /// How many tasks run at the same time, at least one: as many as there are slots, as `limits.agent.tasks` says, and as fit
    /// into `limits.agent` if each uses all it may.
    #[must_use]
    pub fn slots(&self, slots: u32, machine: &Machine) -> u32 {
        let Some(rules) = self.rules() else { return slots };
        let (agent, task) = (&rules.agent_limits, &rules.limits);
        let fit = |all: Option<u64>, one: Option<u64>| match all.zip(one.or(all)) {
            Some((all, one)) => u32::try_from(all / one.min(all).max(1)).unwrap_or(u32::MAX),
            None => u32::MAX,
        };
        let percent = |cpu: Option<Cpu>| cpu.map(|cpu| u64::from(percent(cpu, machine.cpus)));
        let most = [
            agent.tasks.unwrap_or(u32::MAX),
            fit(agent.memory, task.memory),
            fit(percent(agent.cpu), percent(task.cpu)),
        ];
        most.into_iter().fold(slots, u32::min).max(1)
    }
}

/// See [`Policy::unmet`].
pub(super) fn unmet(sandbox: &SandboxRules, machine: &Machine) -> Option<Fault> {
    let lacks = |(name, least): &&(String, u32)| {
        machine.features.get(name).is_none_or(|version| version < least)
    };
    let missing = sandbox.require.iter().filter(lacks).map(|(name, least)| match least {
        0 => name.clone(),
        least => format!("{name}>={least}"),
    });
    let missing: Vec<String> = missing.collect();
    (!missing.is_empty()).then(|| {
        let what = missing.join(", ");
        let message =
            format!("this machine lacks {what}, which sandbox.require of its policy demands");
        Fault::new(Code::SandboxRequired, message)
    })
}

/// A task never gets more than all of them together; where the policy sets it none, it gets that.
pub(super) fn within(limits: Limits, agent: &AgentLimits, cpus: u32) -> Limits {
    let least = |own: Option<u64>, all: Option<u64>| match (own, all) {
        (Some(own), Some(all)) => Some(own.min(all)),
        (own, all) => own.or(all),
    };
    let cpu = least(
        limits.cpu_percent.map(u64::from),
        agent.cpu.map(|cpu| u64::from(percent(cpu, cpus))),
    );
    Limits {
        cpu_percent: cpu.map(|cpu| u32::try_from(cpu).unwrap_or(u32::MAX)),
        memory: least(limits.memory, agent.memory),
        ..limits
    }
}

/// Percent of one processor.
pub(super) fn percent(cpu: Cpu, cpus: u32) -> u32 {
    match cpu {
        Cpu::Percent(percent) => percent,
        Cpu::OfMachine(percent) => percent.saturating_mul(cpus.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        let text = format!("version = 1\nprograms.search = [\"/usr/bin\"]\n{text}\n[paths]\n");
        Policy::parse(&text, String::new()).unwrap()
    }

    fn machine(features: &[(&str, u32)]) -> Machine {
        let features = features.iter().map(|(name, version)| ((*name).to_owned(), *version));
        Machine { features: features.collect(), cpus: 4, ..Machine::default() }
    }

    #[test]
    fn what_the_machine_lacks_is_named_and_nothing_else() {
        let strict = policy("sandbox.require = [\"landlock>=4\", \"seccomp\", \"full\"]");
        let fault = strict.unmet(&machine(&[("landlock", 3), ("seccomp", 0)])).unwrap();
        assert_eq!(fault.code, Code::SandboxRequired);
        assert!(fault.message.contains("landlock>=4, full,"), "{fault}");
        let enough = machine(&[("landlock", 4), ("seccomp", 0), ("full", 0)]);
        assert_eq!(strict.unmet(&enough), None);
        assert_eq!(policy("").unmet(&machine(&[])), None);
        assert_eq!(Policy::parse("version = 0", String::new()).unwrap().unmet(&machine(&[])), None);
    }

    #[test]
    fn as_many_tasks_run_as_fit_into_what_the_agent_may_use() {
        for (limits, slots) in [
            ("", 8),
            ("limits.agent = { tasks = 3 }", 3),
            ("limits.agent = { tasks = 30 }", 8),
            ("limits.task = { memory = \"4GiB\" }\nlimits.agent = { memory = \"9GiB\" }", 2),
            // A task that may use anything may use all of it: one at a time.
            ("limits.agent = { memory = \"9GiB\" }", 1),
            // More for one than for all: one at a time, with what there is.
            ("limits.task = { memory = \"4GiB\" }\nlimits.agent = { memory = \"1GiB\" }", 1),
            ("limits.task = { cpu = \"100%\" }\nlimits.agent = { cpu = \"75% of machine\" }", 3),
        ] {
            assert_eq!(policy(limits).slots(8, &machine(&[])), slots, "{limits}");
        }
    }
}
