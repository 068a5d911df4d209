//! `quadrille config`: what is in force, for people and for other tools' options.

use anyhow::bail;

use crate::{Settings, output};

/// Shows all keys with their values, or the value of one alone. Passwords are hidden.
pub fn show(settings: &Settings, key: Option<&str>) -> anyhow::Result<()> {
    let in_force = settings.in_force();
    let Some(key) = key else {
        return in_force.iter().try_for_each(|(key, value)| output::line(&format!("{key} = {value}")));
    };
    match in_force.iter().find(|(known, _)| *known == key) {
        Some((_, value)) => output::line(value),
        None => bail!("There is no key '{key}': use one of {}", in_force.map(|(known, _)| known).join(", ")),
    }
}
