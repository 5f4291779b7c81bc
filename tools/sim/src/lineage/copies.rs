//! Copies of the database, kept and put in each other's place.

use super::World;

impl World {
    /// A copy of the database that was kept takes the place of the one that runs, which is kept in turn. Often it is used
    /// while the disk is away, when nobody can object, so that its numbers overtake the disk's.
    pub(super) fn other_database(&mut self) -> Result<(), String> {
        if self.kept.is_empty() || self.rng.one_in(2) {
            // A backup, after which the work goes on.
            self.kept.push(self.running.clone());
            for _ in 0..self.rng.between(1, 6) {
                self.command()?;
            }
            for _ in 0..self.rng.below(300) {
                self.turn()?;
            }
        }
        let index = match self.rng.one_in(2) {
            true => self.kept.len() - 1,
            false => self.rng.index(self.kept.len()),
        };
        let other = self.kept.swap_remove(index);
        self.kept.push(std::mem::replace(&mut self.running, other));
        self.restart(false)?;
        if self.rng.one_in(2) {
            self.absent = true;
            self.turn()?;
            for _ in 0..self.rng.between(1, 60) {
                self.command()?;
            }
            self.absent = false;
        }
        if self.rng.one_in(2) {
            // The one of before runs elsewhere, and comes for its disk when it has been let go here.
            for _ in 0..self.rng.below(12) {
                self.turn()?;
            }
            self.owner_comes()?;
        }
        Ok(())
    }
}
