//! Nanoseconds a request. They tell what this machine does at this moment: no test looks at them.

use crate::workload::{Running, Workload};
use std::error::Error;
use std::time::Instant;

/// Windows of which the best and the median are told.
const WINDOWS: usize = 200;
/// Requests in a window, about.
const REQUESTS: u32 = 32_000;

/// Takes the time of each workload and prints a table.
pub fn print(workloads: &[Workload]) -> Result<(), Box<dyn Error>> {
    println!(
        "nanoseconds a request; the guest's one store a turn is taken off, its cost stands in the last column"
    );
    println!("{:22} {:>7} {:>7} {:>7}", "workload", "best", "median", "store");
    for workload in workloads {
        let mut running = workload.start()?;
        let whole = sorted_costs(workload, &mut running, Running::turn);
        running.end()?;
        // A ring that nobody serves any more.
        let store = sorted_costs(workload, &mut running, Running::offer);
        let store = median(&store)?;
        let best = whole.first().ok_or("no window")? - store;
        let median = median(&whole)? - store;
        println!("{:22} {best:7.1} {median:7.1} {store:7.1}", workload.name);
    }
    Ok(())
}

/// What a request costs in each window, the cheapest first.
fn sorted_costs(workload: &Workload, running: &mut Running, step: fn(&mut Running)) -> Vec<f64> {
    let turns = REQUESTS / u32::from(workload.depth());
    let requests = f64::from(turns * u32::from(workload.depth()));
    let mut window = || {
        let start = Instant::now();
        (0..turns).for_each(|_| step(running));
        start.elapsed().as_nanos() as f64 / requests
    };
    window();
    let mut costs: Vec<f64> = (0..WINDOWS).map(|_| window()).collect();
    costs.sort_by(f64::total_cmp);
    costs
}

fn median(sorted: &[f64]) -> Result<f64, &'static str> {
    sorted.get(sorted.len() / 2).copied().ok_or("no window")
}
