//! Which layers work on this machine: determined by creating a jail and inspecting it.

use std::collections::BTreeSet;

use ai_factory_schemas::run::IsolationLevel;
use serde::Serialize;

use super::{layer::IsolationLayer, settings::SandboxSettings};

/// The state of one layer on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerState {
    /// The layer.
    pub layer: IsolationLayer,
    /// Whether it was verified to be in force.
    pub is_on: bool,
    /// The system's error if it is off.
    pub why: Option<String>,
    /// How to enable it if it is off.
    pub remedy: Option<&'static str>,
}

/// Tests every layer of a level (only `full` and `reduced` have any): creates a jail, and where a
/// layer is refused another one without it, until one can be created.
#[cfg(target_os = "linux")]
pub async fn layers(level: IsolationLevel, settings: &SandboxSettings) -> Vec<LayerState> {
    use std::sync::Arc;

    use ai_factory_ports::sandbox::SandboxError;

    use super::{
        jail_factory::{JailFactory, JailSize},
        jail_layers::JailLevel,
    };

    let level = match level {
        IsolationLevel::Full => JailLevel::Full,
        IsolationLevel::Reduced => JailLevel::Reduced(settings.tmp_dir.clone()),
        IsolationLevel::Process | IsolationLevel::None => return Vec::new(),
    };

    let mut refused: Vec<(IsolationLayer, String)> = Vec::new();
    let mut without = BTreeSet::new();
    let (wanted, active) = loop {
        let jails = Arc::new(JailFactory::new(level.clone(), settings, &without));
        let wanted: Vec<_> = IsolationLayer::ALL
            .into_iter()
            .filter(|layer| jails.layers().has_in_level(*layer))
            .collect();
        let made = jails.make(None, JailSize::Usual, false).await;
        let active = made.map(|member| member.active().to_vec());
        jails.drained().await;
        match active {
            Ok(active) => break (wanted, active),
            Err(SandboxError::Broken { layer, message }) => {
                let layer = IsolationLayer::ALL.into_iter().find(|known| *known.name() == *layer);
                let Some(layer) = layer.filter(|layer| without.insert(*layer)) else {
                    // The jail cannot do without this layer: the layers after it were never tested.
                    let why = |layer: &IsolationLayer| {
                        let said = refused.iter().find(|(refused, _)| refused == layer);
                        said.map_or_else(|| message.clone(), |(_, said)| said.clone())
                    };
                    return wanted.iter().map(|layer| off(*layer, why(layer))).collect();
                };
                let said = message.split("; to turn it on:").next().unwrap_or_default();
                refused.push((layer, said.to_owned()));
            }
            Err(error) => {
                return wanted.iter().map(|layer| off(*layer, error.to_string())).collect();
            }
        }
    };
    wanted
        .into_iter()
        .map(|layer| {
            let said = refused.iter().find(|(refused, _)| *refused == layer);
            match (active.contains(&layer), said) {
                (true, _) => LayerState { layer, is_on: true, why: None, remedy: None },
                (false, Some((_, said))) => off(layer, said.clone()),
                (false, None) => off(layer, "no place to set it up".to_owned()),
            }
        })
        .collect()
}

/// No layers on this system.
#[cfg(not(target_os = "linux"))]
pub async fn layers(level: IsolationLevel, _settings: &SandboxSettings) -> Vec<LayerState> {
    let has_layers = matches!(level, IsolationLevel::Full | IsolationLevel::Reduced);
    let all = IsolationLayer::ALL.into_iter().filter(|_| has_layers);
    all.map(|layer| off(layer, "only Linux has it".to_owned())).collect()
}

fn off(layer: IsolationLayer, why: String) -> LayerState {
    LayerState { layer, is_on: false, why: Some(why), remedy: Some(layer.remedy()) }
}
