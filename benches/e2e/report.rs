//! Collects and prints the figures of one shape of request, over all rounds.

use std::time::Duration;

use super::load::Sent;
use super::subject::Spent;

/// The CPU time of each subject, round by round. The others are compared with the first.
pub(crate) struct Report {
    subjects: Vec<Rounds>,
}

struct Rounds {
    name: &'static str,
    /// Microseconds of CPU time per request.
    cpu: Vec<f64>,
    /// Threads woken per request.
    slices: Vec<f64>,
    took: Vec<Duration>,
    late: Duration,
}

impl Report {
    pub(crate) fn new(names: impl Iterator<Item = &'static str>) -> Self {
        let rounds =
            |name| Rounds { name, cpu: Vec::new(), slices: Vec::new(), took: Vec::new(), late: Duration::ZERO };
        Report { subjects: names.map(rounds).collect() }
    }

    #[expect(clippy::float_arithmetic, reason = "measurements are no money")]
    pub(crate) fn add(&mut self, name: &str, spent: Spent, sent: &Sent) {
        let rounds = self.subjects.iter_mut().find(|rounds| rounds.name == name).expect("a subject of the report");
        let requests = sent.took.len() as f64;
        rounds.cpu.push(spent.nanos as f64 / 1e3 / requests);
        rounds.slices.push(spent.slices as f64 / requests);
        rounds.took.extend(&sent.took);
        rounds.late = rounds.late.max(sent.late);
    }

    #[expect(clippy::float_arithmetic, reason = "measurements are no money")]
    pub(crate) fn print(&mut self, events: u32) {
        println!(
            "{:<16} {:>10} {:>10} {:>10} {:>12} {:>9} {:>9} {:>9}",
            "", "CPU us min", "median", "us/event", "x bare proxy", "woken", "p50 ms", "late ms"
        );
        let bare = self.subjects[0].cpu.clone();
        for Rounds { name, cpu, slices, took, late } in &mut self.subjects {
            // The median of the ratios, not the ratio of the medians: a busy machine slows neighbouring rounds alike.
            let ratio = median(cpu.iter().zip(&bare).map(|(it, bare)| it / bare).collect());
            let least = cpu.iter().copied().fold(f64::INFINITY, f64::min);
            let middle = median(cpu.clone());
            let event = if events == 0 { "-".to_owned() } else { format!("{:.2}", middle / f64::from(events)) };
            let slices = median(std::mem::take(slices));
            took.sort_unstable();
            let p50 = took[took.len() / 2].as_secs_f64() * 1e3;
            let late = late.as_secs_f64() * 1e3;
            println!(
                "{name:<16} {least:>10.1} {middle:>10.1} {event:>10} {ratio:>12.2} {slices:>9.1} {p50:>9.2} {late:>9.1}"
            );
        }
        println!();
    }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_unstable_by(f64::total_cmp);
    let middle = of.len() / 2;
    if of.len() % 2 == 1 { of[middle] } else { f64::midpoint(of[middle - 1], of[middle]) }
}
