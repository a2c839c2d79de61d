//! A machine that qemu pretends, with a kernel of its own and this machine's files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_lab::patience;
use selvedge_tests::{bin_dir, client};

/// How much longer than on a real machine things may take there, and on one that does more besides.
const FACTOR: u32 = 30;

/// How long a machine may take to start, and longer than a job may take to say that it has ended.
const STARTING: Duration = Duration::from_secs(90);

/// How often a machine is started that stands still: where the processors are busy, a pretended one may lose its clock.
const TRIES: usize = 2;

/// A kernel that `tests/kernels/get.sh` has unpacked.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// Its series: 6.12.
    pub(crate) name: String,
    /// What it calls itself.
    pub(crate) release: String,
    folder: PathBuf,
}

/// What is to be done on a machine.
#[derive(Debug)]
pub(crate) struct Job {
    /// What is shown by it, for the table.
    pub(crate) shows: String,
    /// What to type there.
    pub(crate) line: String,
    /// After how many seconds it counts as stuck.
    pub(crate) limit: u32,
}

/// What became of a job.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) shows: String,
    /// None where the machine stopped before.
    pub(crate) status: Option<i32>,
    pub(crate) seconds: f64,
    pub(crate) log: String,
}

impl Ran {
    pub(crate) fn is_well(&self) -> bool {
        self.status == Some(0)
    }
}

impl Kernel {
    /// The one of that series; `None` if it is not there.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let folder = client("kernels")?.join(name);
        let release = fs::read_to_string(folder.join("release")).ok()?;
        Some(Self { name: name.to_owned(), release: release.trim().to_owned(), folder })
    }

    /// Starts a machine with it, has it do the jobs one after another, tells of each, and takes it away again; `None`
    /// where it stood still, whenever it was tried.
    pub(crate) fn run(&self, jobs: &[Job], told: impl Fn(&Ran)) -> Option<Vec<Ran>> {
        (0..TRIES).find_map(|_| self.try_run(jobs, &told))
    }

    fn try_run(&self, jobs: &[Job], told: impl Fn(&Ran)) -> Option<Vec<Ran>> {
        let folder = Folder::new(&self.name);
        fs::write(folder.0.join("vm/run"), script(jobs)).unwrap();
        self.pack(&folder.0);
        let console = File::create(folder.0.join("console")).unwrap();
        let mut machine = Machine(self.qemu(&folder.0, console).spawn().unwrap());
        let mut deadline = Instant::now() + STARTING;
        while !folder.0.join("vm/begun").exists() && !machine.has_ended() {
            still(deadline)?;
        }
        let mut all = Vec::new();
        for (number, job) in (0..).zip(jobs) {
            deadline = Instant::now() + STARTING + Duration::from_secs(job.limit.into());
            // Whether it has ended is asked first: what it wrote before is there then.
            while !machine.has_ended() && folder.ran(number, job).status.is_none() {
                still(deadline)?;
            }
            let ran = folder.ran(number, job);
            told(&ran);
            all.push(ran);
        }
        Some(all)
    }

    /// What the kernel starts from: busybox, its modules, and [`INIT`].
    fn pack(&self, folder: &Path) {
        let initrd = folder.join("initrd");
        fs::create_dir_all(initrd.join("bin")).unwrap();
        let busybox = client("kernels/qemu/usr/bin/busybox").unwrap();
        fs::copy(&busybox, initrd.join("bin/busybox")).unwrap();
        fs::write(initrd.join("init"), include_str!("init.sh")).unwrap();
        let mut pack = Command::new("sh");
        pack.current_dir(&initrd).env("BUSYBOX", &busybox).env("KERNEL", &self.folder).arg("-ec");
        pack.arg(
            "chmod +x init; cp -r \"$KERNEL/lib\" lib; find . | \"$BUSYBOX\" cpio -o -H newc >../initrd.cpio",
        );
        let packed = pack.output().unwrap();
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    }

    fn qemu(&self, folder: &Path, console: File) -> Command {
        let qemu = client("kernels/qemu/usr").unwrap();
        let share = |name: &str, path: &Path, more: &str| {
            let path = path.display();
            ["-fsdev".to_owned(), format!("local,id={name},path={path},security_model=none{more}")]
                .into_iter()
                .chain(["-device".to_owned(), format!("virtio-9p-pci,fsdev={name},mount_tag={name}")])
        };
        // It goes with the test, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(qemu.join("lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(qemu.join("lib/x86_64-linux-gnu"));
        command.arg(qemu.join("bin/qemu-system-x86_64"));
        command.arg("-L").arg(qemu.join("share/qemu")).arg("-L").arg(qemu.join("share/seabios"));
        command.args([
            "-machine",
            "q35",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            "3072",
        ]);
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-serial",
            "stdio",
        ]);
        command
            .arg("-kernel")
            .arg(self.folder.join("vmlinux"))
            .arg("-initrd")
            .arg(folder.join("initrd.cpio"));
        command.args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off nokaslr"]);
        command.args(share("host", Path::new("/"), ",readonly=on,multidevs=remap"));
        command.args(share("vm", &folder.join("vm"), ""));
        let errors = console.try_clone().unwrap();
        command.stdin(Stdio::null()).stdout(console).stderr(errors);
        command
    }
}

/// What the machine does, job by job: how each ended, when and what it said are files of the shared folder.
fn script(jobs: &[Job]) -> String {
    let mut script = format!(
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run HOME=/run\n\
         export SELVEDGE_BIN_DIR='{}' {}={FACTOR}\n\
         export TMPDIR=/run/tmp; mkdir /run/tmp\n\
         ip link set lo up\n\
         now() {{ cut -d' ' -f1 /proc/uptime; }}\n\
         : >/run/vm/begun\n",
        bin_dir().display(),
        patience::VARIABLE,
    );
    for (number, job) in (0..).zip(jobs) {
        let Job { line, limit, .. } = job;
        script.push_str(&format!(
            "from=$(now)\n\
             timeout -k 5 {limit} bash -c '{line}' >/run/vm/{number}.log 2>&1 </dev/null\n\
             echo \"$? $from $(now)\" >/run/vm/{number}.status\n"
        ));
    }
    script.push_str("/run/busybox sync\necho o >/proc/sysrq-trigger\nsleep 60\n");
    script
}

/// Waits a moment; `None` if it is too late for that.
fn still(deadline: Instant) -> Option<()> {
    thread::sleep(Duration::from_millis(100));
    (Instant::now() < deadline).then_some(())
}

/// Killed when dropped.
struct Machine(Child);

impl Machine {
    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What a machine is started with and writes, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("selvedge-kernel-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("vm")).unwrap();
        Self(folder)
    }

    /// What has become of a job until now. One that wrote nothing shows what the machine said.
    fn ran(&self, number: usize, job: &Job) -> Ran {
        let text = |path: &str| {
            let bytes = fs::read(self.0.join(path)).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        let status = text(&format!("vm/{number}.status")).unwrap_or_default();
        let log = text(&format!("vm/{number}.log")).or_else(|| text("console")).unwrap_or_default();
        let shows = job.shows.clone();
        // It is written in one piece: what it is, and two times.
        let words: Vec<&str> = status.split_whitespace().collect();
        let [status, from, to] = words[..] else { return Ran { shows, status: None, seconds: 0.0, log } };
        let time = |word: &str| word.parse::<f64>().unwrap();
        Ran { shows, status: Some(status.parse().unwrap()), seconds: time(to) - time(from), log }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in the system's folder for such things.
        fs::remove_dir_all(&self.0).ok();
    }
}
