//! What was measured, as a table for people and as JSON for programs. It judges a figure only by its stated goal.

use anyhow::Context as _;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::Path;

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Share of the yardstick, at least.
    RatioAtLeast(f64),
    /// Multiple of the yardstick, at most.
    RatioAtMost(f64),
    /// The value itself, at most.
    AtMost(f64),
    /// The value itself, at least.
    AtLeast(f64),
}

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Which scenario it belongs to.
    pub(crate) scenario: &'static str,
    /// What was measured.
    pub(crate) figure: String,
    /// Median over the rounds.
    pub(crate) value: f64,
    /// Unit of the value and its yardstick.
    pub(crate) unit: &'static str,
    /// Median of the yardstick, measured in turn with the value.
    pub(crate) yardstick: Option<f64>,
    /// Median of the ratios of each round to its own yardstick.
    pub(crate) ratio: Option<f64>,
    /// What it should be.
    pub(crate) goal: Option<Goal>,
    /// What was durable when it counted, and other settings that matter.
    pub(crate) setting: String,
}

impl Row {
    /// A figure without yardstick or goal.
    pub(crate) fn new(
        scenario: &'static str,
        figure: impl Into<String>,
        values: &[f64],
        unit: &'static str,
        setting: &str,
    ) -> Row {
        Row {
            scenario,
            figure: figure.into(),
            value: median(values),
            unit,
            yardstick: None,
            ratio: None,
            goal: None,
            setting: setting.to_owned(),
        }
    }

    /// Adds what was measured in the same rounds as the yardstick.
    pub(crate) fn beside(mut self, values: &[f64], yardstick: &[f64]) -> Row {
        let ratios: Vec<f64> =
            values.iter().zip(yardstick).filter(|(_, y)| **y > 0.0).map(|(v, y)| v / y).collect();
        self.yardstick = Some(median(yardstick));
        self.ratio = Some(median(&ratios));
        self
    }

    /// Adds what it should be.
    pub(crate) fn goal(mut self, goal: Goal) -> Row {
        self.goal = Some(goal);
        self
    }

    fn met(&self) -> Option<bool> {
        Some(match self.goal? {
            Goal::RatioAtLeast(g) => self.ratio? >= g,
            Goal::RatioAtMost(g) => self.ratio? <= g,
            Goal::AtMost(g) => self.value <= g,
            Goal::AtLeast(g) => self.value >= g,
        })
    }

    fn goal_text(&self) -> String {
        let text = match self.goal {
            None => return String::new(),
            Some(Goal::RatioAtLeast(g)) => format!(">= {:.0} %", g * 100.0),
            Some(Goal::RatioAtMost(g)) => format!("<= {g}x"),
            Some(Goal::AtMost(g)) => format!("<= {g} {}", self.unit),
            Some(Goal::AtLeast(g)) => format!(">= {g} {}", self.unit),
        };
        match self.met() {
            Some(true) => format!("{text} met"),
            Some(false) => format!("{text} MISSED"),
            None => text,
        }
    }

    fn ratio_text(&self) -> String {
        match (self.ratio, self.goal) {
            (None, _) => String::new(),
            (Some(r), Some(Goal::RatioAtLeast(_))) => format!("{:.0} %", r * 100.0),
            (Some(r), _) => format!("{r:.2}x"),
        }
    }

    fn to_json(&self) -> Value {
        let goal = self.goal.map(|g| match g {
            Goal::RatioAtLeast(v) => json!({ "ratio_at_least": v }),
            Goal::RatioAtMost(v) => json!({ "ratio_at_most": v }),
            Goal::AtMost(v) => json!({ "at_most": v }),
            Goal::AtLeast(v) => json!({ "at_least": v }),
        });
        json!({
            "scenario": self.scenario,
            "figure": self.figure,
            "value": self.value,
            "unit": self.unit,
            "yardstick": self.yardstick,
            "ratio": self.ratio,
            "goal": goal,
            "met": self.met(),
            "setting": self.setting,
        })
    }
}

/// The middle of the values; 0 without any.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (n, mid) if n % 2 == 1 => sorted[mid],
        (_, mid) => f64::midpoint(sorted[mid - 1], sorted[mid]),
    }
}

/// Prints the table to standard output.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn print(rows: &[Row]) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["scenario", "figure", "value", "yardstick", "ratio", "goal", "setting"]);
    for row in rows {
        table.add_row([
            row.scenario.to_owned(),
            row.figure.clone(),
            format!("{} {}", number(row.value), row.unit),
            row.yardstick.map(|y| format!("{} {}", number(y), row.unit)).unwrap_or_default(),
            row.ratio_text(),
            row.goal_text(),
            row.setting.clone(),
        ]);
    }
    for column in 2..5 {
        if let Some(c) = table.column_mut(column) {
            c.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{table}\n{}", machine_text())?;
    Ok(())
}

/// Writes the rows as JSON.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_json(rows: &[Row], file: &Path) -> anyhow::Result<()> {
    let all = json!({
        "format": 1,
        "date": jiff::Timestamp::now().to_string(),
        "cores": cores(),
        "profile": profile(),
        "figures": rows.iter().map(Row::to_json).collect::<Vec<_>>(),
    });
    let text = serde_json::to_vec_pretty(&all)?;
    std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

fn machine_text() -> String {
    format!(
        "{}, {} cores, {} build; medians; a ratio is the median of each round's own ratio",
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
        cores(),
        profile()
    )
}

/// Cores this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

fn number(v: f64) -> String {
    match v.abs() {
        a if a >= 100.0 => format!("{v:.0}"),
        a if a >= 10.0 => format!("{v:.1}"),
        _ => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_goal_is_judged_by_the_ratios_of_the_rounds() {
        let (cortex, yard) = ([40.0, 10.0, 40.0], [100.0, 20.0, 100.0]);
        let row = Row::new("s", "f", &cortex, "1/s", "").beside(&cortex, &yard);
        assert_eq!(row.ratio, Some(0.4));
        assert_eq!(row.clone().goal(Goal::RatioAtLeast(0.35)).met(), Some(true));
        assert_eq!(row.clone().goal(Goal::RatioAtLeast(0.5)).met(), Some(false));
        assert_eq!(row.clone().goal(Goal::AtMost(40.0)).met(), Some(true));
        assert_eq!(row.met(), None);
    }
}
