//! Whether a program may have a terminal. The program is decided about as always; what is typed later is looked at by nobody, so
//! the owner says for which programs that may be.

use super::decision::Effect;
use super::facts::Machine;
use super::rules::Rules;
use super::whole::Sum;
use cortex_model::{Code, Fault};

/// What the owner is told, and the trail.
const WHY: &str = "with a terminal: what is typed later is not shown here";

/// The strictest of all rules that let the request run counts; one that does not say goes by the policy.
pub(super) fn decide(rules: &Rules, machine: &Machine, sum: &mut Sum<'_>) {
    if !machine.features.contains_key("terminal") {
        let why = "this machine has no terminals to give";
        sum.raise(Effect::Deny, Some(Fault::new(Code::NoTerminal, why)), "");
        return;
    }
    let said =
        sum.rules.iter().map(|rule| (rule.terminal.unwrap_or(rules.terminal), rule.id.as_str()));
    let (effect, rule) =
        said.rev().max_by_key(|(effect, _)| *effect).unwrap_or((rules.terminal, ""));
    let decider = if rule.is_empty() { sum.decider.clone() } else { rule.to_owned() };
    sum.trail.push(format!("a terminal: {}", effect.word()));
    // An answer that is remembered would be one to whatever somebody types another time.
    sum.runs_code = true;
    match effect {
        Effect::Deny => {
            let why = "the node's policy gives this command no terminal";
            sum.raise(Effect::Deny, Some(Fault::new(Code::TerminalDenied, why)), &decider);
        }
        Effect::Ask => {
            sum.why.push(WHY.to_owned());
            sum.raise(Effect::Ask, Some(Fault::new(Code::ConsentNeeded, WHY)), &decider);
        }
        Effect::Allow if sum.effect == Effect::Ask => sum.why.push(WHY.to_owned()),
        Effect::Allow => {}
    }
}
