//! Which layers the jails of a level have, and how records name them.

use std::{collections::BTreeSet, path::PathBuf};

use ai_factory_schemas::run::{Isolation, IsolationLevel};

use super::{layer::IsolationLayer, limits::RunLimits};

/// The level of a jail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JailLevel {
    /// Every layer, with a private root.
    Full,
    /// The layers that need no namespace, in directories of the machine; for an ordinary user they
    /// are below this path.
    Reduced(PathBuf),
}

/// The layers of a level on this machine.
pub(super) struct JailLayers {
    pub(super) level: JailLevel,
    /// Layers that a test leaves out.
    pub(super) without: BTreeSet<IsolationLayer>,
    pub(super) is_root: bool,
    pub(super) has_cgroups: bool,
}

impl JailLayers {
    /// Whether a layer belongs to the complete set here: root needs no user namespace.
    fn wants(&self, layer: IsolationLayer) -> bool {
        layer != IsolationLayer::UserNamespace || !self.is_root
    }

    /// Whether a layer belongs to the level. At `reduced` an ordinary user keeps its identity and
    /// has no privileges to drop.
    pub(super) fn has_in_level(&self, layer: IsolationLayer) -> bool {
        self.wants(layer)
            && match self.level {
                JailLevel::Full => true,
                JailLevel::Reduced(_) => {
                    layer.is_in_reduced()
                        && (self.is_root
                            || !matches!(
                                layer,
                                IsolationLayer::User | IsolationLayer::Capabilities
                            ))
                }
            }
    }

    /// Whether a jail sets a layer up.
    pub(super) fn sets_up(&self, layer: IsolationLayer) -> bool {
        self.has_in_level(layer) && !self.without.contains(&layer)
    }

    /// The layers that must be in force.
    pub(super) fn expected(&self) -> Vec<IsolationLayer> {
        let has = |layer: &IsolationLayer| {
            self.sets_up(*layer) && (*layer != IsolationLayer::MemoryCgroup || self.has_cgroups)
        };
        IsolationLayer::ALL.into_iter().filter(has).collect()
    }

    /// The active isolation, in the form of records.
    pub(super) fn isolation(
        &self,
        active: &[IsolationLayer],
        limits: &RunLimits,
        wall_ms: Option<u64>,
    ) -> Isolation {
        let missing = IsolationLayer::ALL.into_iter().filter(|layer| self.wants(*layer));
        let missing = missing.filter(|layer| !active.contains(layer));
        let mut limits = limits.by_name();
        let level = match self.level {
            JailLevel::Full => IsolationLevel::Full,
            JailLevel::Reduced(_) => {
                // Nothing limits the content of a directory on disk.
                limits.retain(|name, _| !RunLimits::OF_PRIVATE_ROOT.contains(&name.as_str()));
                IsolationLevel::Reduced
            }
        };
        limits.extend(wall_ms.map(|wall_ms| ("wall_ms".to_owned(), wall_ms)));
        Isolation {
            level,
            active: active.iter().map(|layer| layer.name().to_owned()).collect(),
            missing: missing.map(|layer| layer.name().to_owned()).collect(),
            limits,
        }
    }
}
