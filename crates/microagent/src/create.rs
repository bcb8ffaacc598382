//! Making a workspace that is to be kept.

use crate::boot::{BringUp, Parts, Stopwatch};
use crate::network::Purpose;
use crate::progress::Event;
use crate::{Client, CreateOptions, Error, Plan, RunIo, attach, describe, inject, supervisor};
use microagent_state::{Name, Phase, Resources, Workspace, WorkspaceRecord};
use serde::Serialize;
use std::path::PathBuf;

/// A workspace that was made.
#[derive(Clone, Debug, Serialize)]
pub struct CreateReport {
    /// Name of the workspace.
    pub workspace: Name,
    /// Its directory.
    pub path: PathBuf,
    /// Where it is in its life.
    pub state: Phase,
    /// The image, in full, or the root file system that takes its place.
    pub image: String,
    /// Digest of the image's manifest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_digest: String,
    /// Name of the profile.
    pub profile: String,
    /// Size of the machine.
    pub resources: Resources,
    /// Network mode.
    pub network: String,
    /// Restart policy.
    pub restart: String,
    /// How many set-up steps were run.
    pub setup_steps: usize,
}

impl Client {
    /// Checks what [`Client::create`] would make, without making it and without the network.
    pub fn plan_workspace(&self, options: &CreateOptions) -> Result<Plan, Error> {
        Plan::of_create(options)
    }

    /// Makes a workspace: fetches its image, makes its disk, and runs its set-up steps in a machine of its own. What the steps print goes to
    /// `io`.
    ///
    /// A workspace whose set-up fails stays, as failed: its steps are run again when it is started. After every other error there is none.
    pub fn create(&self, options: &CreateOptions, io: RunIo) -> Result<CreateReport, Error> {
        let plan = Plan::of_create(options)?;
        let wanted = &options.workspace;
        // Before anything is fetched for it.
        if self.state().find(&plan.workspace).is_ok() {
            return Err(microagent_state::Error::Exists { name: plan.workspace.to_string() }.into());
        }
        let mut watch = Stopwatch::start();
        let (kernel, guest_init) = (wanted.kernel.as_deref(), wanted.guest_init.as_deref());
        let parts = Parts::gather(self, plan.backend.as_deref(), kernel, guest_init, &mut watch)?;
        let base = describe::Base::find(self, &plan, wanted)?;
        let mut record = describe::workspace(&plan, wanted, &parts, &base)?;
        let workspace = self.state().create(&plan.workspace)?;
        let made = describe::format_disk(&workspace, &record, wanted.mke2fs.as_deref()).and_then(|()| {
            attach::prepare(self, &workspace, &mut record.disks)?;
            inject::capture(&workspace, &plan.files)?;
            record.verification.disk = describe::disk_uuid(&workspace.disk());
            workspace.store(&record)?;
            Ok(workspace.note(&record, "created", self.cause(None))?)
        });
        if let Err(error) = made {
            // Half a workspace is none. What cannot be removed now, `gc` will.
            let _ = workspace.remove();
            return Err(error);
        }
        if !record.setup_complete {
            self.set_up(&workspace, &mut record, options, parts, watch, io)?;
        }
        Ok(CreateReport {
            workspace: record.name,
            path: workspace.path().to_owned(),
            state: record.phase,
            image: record.image,
            image_digest: record.image_digest,
            profile: record.profile,
            resources: record.resources,
            network: record.network,
            restart: record.restart,
            setup_steps: record.setup.len(),
        })
    }

    fn set_up(
        &self,
        workspace: &Workspace,
        record: &mut WorkspaceRecord,
        options: &CreateOptions,
        parts: Parts,
        watch: Stopwatch,
        io: RunIo,
    ) -> Result<(), Error> {
        let wanted = &options.workspace;
        workspace.enter(record, Phase::Starting, self.cause(Some("set-up".to_owned())))?;
        self.progress().event(Event::Booting);
        let mut boot = BringUp::new(self, parts, wanted.templates, wanted.interrupt.clone(), watch, Purpose::SetUp);
        let outcome = boot.bring_up(workspace, record, None, None).and_then(|mut session| {
            self.progress().event(Event::Booted);
            let outcome = supervisor::set_up(self, &mut session, workspace, record, &wanted.interrupt, io);
            // What a step wrote before another failed is kept: it is run again on what is there.
            let rested = session.shut_down();
            session.kill();
            outcome.and(rested)
        });
        boot.finish_template();
        let cause = self.cause(Some("set-up".to_owned()));
        match outcome {
            Ok(()) => Ok(workspace.enter(record, Phase::Prepared, cause)?),
            Err(error) => {
                record.error = Some(error.report());
                // The first failure is the one to report.
                let _ = workspace.enter(record, Phase::Failed, cause);
                Err(error)
            }
        }
    }
}
