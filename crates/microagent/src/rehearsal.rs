//! What a machine does before it is frozen for others to go on from: everything that machines do, for nobody.
//!
//! An emulator translates the guest's code as it is run for the first time. A machine that goes on from one that has done it all before
//! finds it translated. So the one to be frozen becomes a workspace's machine, runs a command that does a little of everything
//! (`microagent-guest`, module `rehearsal`), and is let go of, twice; its disks hold nothing but what is needed for that.

use crate::Error;
use crate::boot::session;
use microagent_image::rootfs::{self, Limits, Tree};
use microagent_machine::channel::{Input, Output};
use microagent_machine::engine::{DiskMode, DiskSpec, Machine};
use microagent_machine::template::Making;
use microagent_protocol::{Exec, Request};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

/// The second time is another way through the code here and there.
const ROUNDS: usize = 2;

/// Size of the workspace's disk. What there is to do to a disk does not depend on it.
const DISK_BYTES: u64 = 1 << 30;

/// The agent's own file, which is there whatever the image is.
const PROGRAM: [&str; 2] = ["/proc/1/exe", "rehearse"];

/// A name of the base's own.
const NAME: &str = "rehearsal";

/// The agent's file is root's alone. The group takes the way through both databases.
const USER: &str = "root:rehearsal";

/// File system of the base.
const BASE: &str = "erofs";

/// More than a stream takes at a time.
const INPUT_BYTES: usize = 300 << 10;

/// A machine that rehearses.
struct Rehearsal<'a> {
    machine: &'a mut Machine,
    /// The base and a disk that is made anew each time.
    disks: &'a [DiskSpec],
    network: bool,
    epoch_ns: u64,
    limit: Instant,
}

/// Has `machine`, which is being restored and has nothing for disks, do all of it with `disks`. It is then as it was before, but for what
/// it has learned.
pub(crate) fn perform(machine: &mut Machine, disks: &[DiskSpec], network: bool, limit: Instant) -> Result<(), Error> {
    machine.engine_up(limit)?;
    let epoch_ns = machine.guest_up(limit)?;
    let mut rehearsal = Rehearsal { machine, disks, network, epoch_ns, limit };
    (0..ROUNDS).try_for_each(|_| rehearsal.perform_once())
}

/// What makes the machine that of a workspace: one that uses its network interface, if there is one.
fn request(network: bool, epoch_ns: u64) -> Result<Request, Error> {
    session::boot_request(NAME, BASE, &[], epoch_ns, |boot| {
        boot.network = network.then_some(crate::network::GUEST_NETWORK);
    })
}

/// Waits until a machine is up, and makes it a workspace's: whether it can be is what a template is good for.
pub(crate) fn boot(machine: &mut Machine, network: bool, limit: Instant) -> Result<(), Error> {
    machine.engine_up(limit)?;
    let epoch_ns = machine.guest_up(limit)?;
    machine.channel().call(&request(network, epoch_ns)?)?.wait(Some(limit))?;
    Ok(())
}

impl Rehearsal<'_> {
    fn perform_once(&mut self) -> Result<(), Error> {
        make_blank(&self.disks[1].path)?;
        for (index, disk) in self.disks.iter().enumerate() {
            self.machine.attach(index, disk, self.limit)?;
        }
        self.call(&request(self.network, self.epoch_ns)?)?;
        self.run(&PROGRAM, "", true)?;
        self.run(&[&PROGRAM[..], &["briefly"]].concat(), USER, false)?;
        self.call(&Request::Release)?;
        for (index, disk) in self.disks.iter().enumerate() {
            self.machine.detach(index, disk, self.limit)?;
        }
        Ok(())
    }

    fn call(&self, request: &Request) -> Result<(), Error> {
        self.machine.channel().call(request)?.wait(Some(self.limit))?;
        Ok(())
    }

    /// Runs a command the way commands are run. How it ends makes no difference.
    fn run(&self, argv: &[&str], user: &str, with_input: bool) -> Result<(), Error> {
        let channel = self.machine.channel();
        let (stdout, stderr) = (channel.output(), channel.output());
        let input = with_input.then(|| channel.input());
        let exec = Request::Exec(Exec {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            env: vec!["PATH=/usr/bin:/bin".to_owned(), "LANG=C".to_owned()],
            cwd: "/tmp".to_owned(),
            user: user.to_owned(),
            tty: None,
            stdin: input.as_ref().map(Input::id),
            stdout: stdout.id(),
            stderr: stderr.id(),
            drain_ms: 0,
        });
        let call = channel.call(&exec)?;
        std::thread::scope(|scope| {
            scope.spawn(|| drain(stdout));
            scope.spawn(|| drain(stderr));
            if let Some(mut input) = input {
                // A command that does not take it all ends, which is told by its reply.
                let _ = input.write_all(&vec![b'x'; INPUT_BYTES]);
            }
        });
        call.wait(Some(self.limit))?;
        Ok(())
    }
}

fn drain(mut output: Output) {
    let mut buffer = vec![0; 64 << 10];
    while matches!(output.read(&mut buffer), Ok(1..)) {}
}

/// Disks for a machine of which a template is made. They go with what else there is beside it.
pub(crate) fn make_disks(making: &Making) -> Result<Vec<DiskSpec>, Error> {
    let (base, disk) = (making.scratch("base"), making.scratch("disk"));
    write_base(&base, &making.scratch("layer"))?;
    make_blank(&disk)?;
    Ok(session::disks(base, disk, DiskMode::Scratch))
}

fn make_blank(disk: &Path) -> Result<(), Error> {
    // One that is not there needs no removing; one that cannot be removed cannot be made again either.
    let _ = std::fs::remove_file(disk);
    Ok(rootfs::format_blank_ext4(disk, DISK_BYTES).map_err(microagent_image::Error::from)?)
}

/// Writes the base: the least that a workspace needs, and something to read.
fn write_base(base: &Path, layer: &Path) -> Result<(), Error> {
    let failed =
        |source| microagent_image::Error::from(rootfs::Error::Write { what: "the base of a rehearsal", source });
    let file = File::options().read(true).write(true).create_new(true).open(layer).map_err(failed)?;
    let mut archive = tar::Builder::new(&file);
    for (directory, mode) in [("etc", 0o755), ("usr", 0o755), ("usr/bin", 0o755), ("tmp", 0o1777)] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        archive.append_data(&mut header, directory, std::io::empty()).map_err(failed)?;
    }
    let passwd = format!("root:x:0:0:root:/root:/bin/sh\n{NAME}:x:1000:1000::/tmp:/bin/sh\n");
    let group = format!("root:x:0:\n{NAME}:x:1000:\n");
    let data = vec![b'x'; 256 << 10];
    for (name, content) in [("etc/passwd", passwd.as_bytes()), ("etc/group", group.as_bytes()), ("etc/data", &data)] {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).map_err(failed)?;
    }
    archive.into_inner().map_err(failed)?;
    let mut tree = Tree::new(Limits::default());
    tree.apply(&file).map_err(microagent_image::Error::from)?;
    let image = File::options().read(true).write(true).create_new(true).open(base).map_err(failed)?;
    rootfs::write_erofs(&tree, &image).map_err(microagent_image::Error::from)?;
    Ok(())
}
