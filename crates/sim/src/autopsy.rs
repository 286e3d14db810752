//! What each device knows once a run has found something, for whoever looks for the reason.

use larder_engine::Space;
use larder_types::{DeviceId, ObjectId};

use crate::device::Device;
use crate::model::{Fate, Unit};
use crate::world::World;

/// Documents that are told of.
const DOCUMENTS_MAX: usize = 6;

impl World {
    /// The devices, and what each knows of the documents that `message` names.
    pub(crate) fn autopsy(&self, message: &str) -> Vec<String> {
        let mut lines: Vec<String> =
            self.devices.iter().map(|device| self.of_device(device)).collect();
        let is_named = |object: &&ObjectId| message.contains(&object.to_string());
        for object in self.model.documents.keys().filter(is_named).take(DOCUMENTS_MAX) {
            lines.extend(self.of_object(object));
        }
        lines
    }

    fn of_device(&self, device: &Device) -> String {
        let id = device.id.map_or("no member".to_owned(), |id| id.to_string());
        let copied = if device.was_copied { ", copied" } else { "" };
        let rotten = if device.is_rotten { ", rotten" } else { "" };
        let state = device.space().map(|space| {
            (
                space.status().map(|status| status.state),
                space.clearance(),
                self.awaited(device.slot),
            )
        });
        format!("{} is {id}{copied}{rotten}: {state:?}", device.slot)
    }

    fn of_object(&self, object: &ObjectId) -> Vec<String> {
        let known = &self.model.documents[object];
        let mut lines = vec![format!("{object}, of band {:?}", known.band)];
        for unit in known.units.iter().map(|index| &self.model.units[*index]) {
            let operations =
                unit.operations.iter().filter(|operation| operation.object() == *object);
            let place = place_of(unit);
            lines.push(format!(
                "  unit of {} as {place:?}: {:?}",
                unit.author,
                operations.collect::<Vec<_>>()
            ));
        }
        for device in &self.devices {
            let Some(space) = device.space() else { continue };
            lines.push(format!("  on {}: {}", device.slot, on_device(space, object)));
            let history = space.history(object).unwrap_or_default();
            lines.extend(
                history.iter().map(|it| format!("    {} {} of {}", it.kind, it.seq, it.device)),
            );
        }
        lines
    }
}

fn place_of(unit: &Unit) -> Option<(DeviceId, u64)> {
    match &unit.fate {
        Fate::Committed(committed) => Some((unit.author, committed.seq)),
        _ => None,
    }
}

fn on_device(space: &Space, object: &ObjectId) -> String {
    let shown = space.document(object).map(|row| row.map(|row| (row.band, row.value)));
    let erasures = space.erasures().unwrap_or_default();
    let erasure = erasures.iter().find(|erasure| erasure.object == *object);
    let stages =
        erasure.map(|it| it.devices.iter().map(|it| (it.device, it.stage)).collect::<Vec<_>>());
    format!("{shown:?}, deleted {:?}, erased {stages:?}", space.is_deleted(object))
}
