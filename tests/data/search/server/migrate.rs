//! Schema of the database.

pub struct Migration {
    pub version: u32,
    pub sql: &'static str,
}

/// Applies the steps that are missing, each in its own transaction.
pub fn upgrade_schema(current: u32, steps: &[Migration], run: &mut dyn FnMut(&str)) -> u32 {
    let mut version = current;
    for step in steps.iter().filter(|step| step.version > current) {
        run(step.sql);
        version = step.version;
    }
    version
}
