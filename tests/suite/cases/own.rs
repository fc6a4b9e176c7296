//! Cases of our own: what the given ones leave out.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use super::{
    expected::{Expected, ends, prints},
    fixture::Stage,
    provided::Case,
};

/// A static program that says so through the old entry of the system, `int 0x80`; built for 32 and
/// for 64 bits.
const OLD_ENTRY: &str = r#"
    .globl _start
    .text
_start:
    mov $4, %eax
    mov $1, %ebx
    mov $text, %ecx
    mov $4, %edx
    int $0x80
    mov $1, %eax
    xor %ebx, %ebx
    int $0x80
    .data
text: .ascii "RAN\n"
"#;

/// Makes what the cases want to start: a copy of `id` that becomes root, and programs that use the
/// old entry. What cannot be made is left out, with a word.
pub(super) fn make_programs(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let id = dir.join("suid-id");
    fs::copy("/usr/bin/id", &id).unwrap();
    fs::set_permissions(&id, fs::Permissions::from_mode(0o4755)).unwrap();
    let source = dir.join("old.s");
    fs::write(&source, OLD_ENTRY).unwrap();
    for (name, bits) in [("b32", "-m32"), ("i80", "-m64")] {
        let made = Command::new("gcc")
            .args([bits, "-nostdlib", "-static", "-no-pie", "-o"])
            .arg(dir.join(name))
            .arg(&source)
            .output();
        if !made.is_ok_and(|made| made.status.success()) {
            println!("no compiler makes {name}: it is left out");
        }
    }
}

/// The old entry, started from the working directory.
fn old_entry(dir: &Path) -> Vec<(Case, Expected)> {
    let code = "import os,subprocess\nos.chmod('old',0o755)\ntry:\n    p=subprocess.run(['./old'],capture_output=True)\n    \
                print('ESCAPE' if b'RAN' in p.stdout else 'killed',p.returncode)\nexcept OSError as e: print('killed',e)";
    let mut cases = Vec::new();
    for name in ["b32", "i80"] {
        let Ok(program) = fs::read(dir.join("pub").join(name)) else { continue };
        let mut case = Case::own(name, "python", code);
        case.files = vec![("old".to_owned(), program)];
        cases.push((case, prints("killed")));
    }
    cases
}

/// All of them, in the service's directory.
pub(super) fn cases(dir: &Path) -> Vec<(Case, Expected)> {
    let mut cases = old_entry(dir);
    cases.extend(reaching_out());
    cases.extend(leaving_files());
    cases.extend(meaning_well());
    cases.extend(super::beside::cases());
    cases.push(super::beside::processes());
    cases
}

/// What lies outside: the network, other namespaces, the kernel.
fn reaching_out() -> Vec<(Case, Expected)> {
    let python = |name: &str, code: &str| (Case::own(name, "python", code), prints("denied"));
    vec![
        python(
            "datagrams to loopback",
            "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n\
             try: s.sendto(b'x',('127.0.0.1',18998)); print('sent')\nexcept OSError as e: print('sent',e)\n\
             print('denied')",
        ),
        python(
            "an abstract socket",
            "import socket\ntry:\n    s=socket.socket(socket.AF_UNIX); s.connect('\\0casebox-test'); print('ESCAPE')\n\
             except OSError as e: print('denied',e)",
        ),
        python(
            "namespaces of its own",
            "import ctypes,os\nlibc=ctypes.CDLL(None,use_errno=True)\n\
             for flag in (0x10000000,0x20000,0x20000000,0x40000000,0x8000000,0x4000000,0x2000000):\n    \
             print('ESCAPE' if libc.unshare(flag)==0 else 'denied',hex(flag))",
        ),
        python(
            "kernel memory and modules",
            "import os\nfor p in ('/proc/kcore','/proc/kallsyms','/dev/mem','/sys/kernel/debug','/boot','/lib/modules/x'):\n    \
             try:\n        with open(p,'rb') as f: data=f.read(64)\n        \
             print('ESCAPE' if data.strip(b'0 ') and p!='/proc/kallsyms' else 'denied',p)\n    \
             except OSError as e: print('denied',p,e.errno)",
        ),
        python(
            "the sandbox's own processes",
            "import os\nfor pid in [p for p in os.listdir('/proc') if p.isdigit()]:\n    \
             for f in ('environ','mem','maps'):\n        \
             try:\n            if pid!=str(os.getpid()) and open(f'/proc/{pid}/{f}','rb').read(9): print('ESCAPE',pid,f)\n        \
             except OSError as e: print('denied',pid,f,e.errno)\nprint('denied')",
        ),
        python(
            "capabilities",
            "for line in open('/proc/self/status'):\n    name,_,value=line.partition(':')\n    \
             if name.startswith('Cap') and int(value,16): print('ESCAPE',line)\n    \
             if name=='NoNewPrivs': print('denied' if value.strip()=='1' else 'ESCAPE')\n    \
             if name=='Seccomp': print('denied' if value.strip()=='2' else 'ESCAPE')",
        ),
        python(
            "shared memory is bounded",
            "import os\nn=0\ntry:\n    f=open('/dev/shm/x','wb')\n    while n<4<<30: n+=f.write(b'x'*(1<<20))\n    \
             print('ESCAPE')\nexcept OSError as e: print('denied',n>>20,e)",
        ),
        python(
            "inodes are bounded",
            "import os\nfor d in ('.','/tmp'):\n    n=0\n    try:\n        while n<200000: open(f'{d}/n{n}','w').close(); n+=1\n        \
             print('ESCAPE')\n    except OSError as e: print('denied',n,e)",
        ),
    ]
}

/// What comes back, and what does not.
fn leaving_files() -> Vec<(Case, Expected)> {
    let returning = |name: &str,
                     code: &str,
                     patterns: &[&str],
                     files: &[&'static str],
                     left_out: &[&'static str]| {
        let mut case = Case::own(name, "python", code);
        case.return_files = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        (case, ends().returns(files).leaves_out(left_out))
    };
    vec![
        returning(
            "files by pattern",
            "import os\nos.makedirs('out/deep')\nfor n in ('a.txt','b.bin','out/c.txt','out/deep/d.txt'): open(n,'w').write(n)",
            &["*.txt", "out/**"],
            &["a.txt", "out/c.txt", "out/deep/d.txt"],
            &[],
        ),
        returning(
            "links do not lead out",
            "import os\nos.symlink('/etc/passwd','passwd')\nos.symlink('/','root')\nos.symlink('/proc/1/environ','environ')\nopen('own','w').write('x')",
            &["passwd", "root/etc/passwd", "environ", "own"],
            &["own"],
            &["environ", "passwd", "root/etc/passwd"],
        ),
        returning(
            "what is no file does not come back",
            "import os\nos.mkfifo('pipe')\nos.mkdir('dir')\nopen('file','w').write('x')",
            &["*"],
            &["file"],
            &["dir", "pipe"],
        ),
        returning(
            "names that no text can hold, and what cannot be read",
            "import os\nopen(b'caf\\xe9','w').close()\nopen('a\\nb','w').close()\nos.makedirs('shut/in')\n\
             open('locked','w').close()\nos.chmod('locked',0)\nos.chmod('shut',0)",
            &["*", "shut/*"],
            &[],
            &["a\\nb", "caf\\xe9", "locked", "shut"],
        ),
        returning(
            "too much is left out",
            "open('large','wb').write(b'x'*(2<<20))\nopen('small','wb').write(b'x')",
            &["large", "small"],
            &["small"],
            &["large"],
        ),
    ]
}

/// Ordinary programs, which must not notice anything.
fn meaning_well() -> Vec<(Case, Expected)> {
    let python =
        |name: &str, code: &str, text: &str| (Case::own(name, "python", code), prints(text));
    let mut cases = vec![
        python(
            "a pool of processes",
            "import multiprocessing as m\ndef f(x): return x*x\nif __name__=='__main__':\n    \
             with m.get_context('fork').Pool(2) as p: print(p.map(f,range(5)))",
            "[0, 1, 4, 9, 16]",
        ),
        python(
            "a database",
            "import sqlite3\nc=sqlite3.connect('x.db'); c.execute('create table t(x)'); \
             c.execute('insert into t values(7)'); c.commit(); print(c.execute('select * from t').fetchall())",
            "[(7,)]",
        ),
        python(
            "threads, queues and locks",
            "import threading,queue\nq=queue.Queue()\nt=[threading.Thread(target=q.put,args=(i,)) for i in range(8)]\n\
             [x.start() for x in t]; [x.join() for x in t]; print(sorted(q.queue))",
            "[0, 1, 2, 3, 4, 5, 6, 7]",
        ),
        python(
            "a server and its client on its own loopback or a pair of sockets",
            "import socket\na,b=socket.socketpair(); a.send(b'hi'); print(b.recv(2))",
            "b'hi'",
        ),
        python(
            "subprocesses and asyncio",
            "import asyncio\nasync def f():\n    p=await asyncio.create_subprocess_exec('/bin/echo','hi',stdout=-1)\n    \
             return (await p.communicate())[0]\nprint(asyncio.run(f()))",
            "b'hi\\n'",
        ),
        python(
            "temporary files, time, users and random numbers",
            "import tempfile,time,os,pwd,random,uuid\nwith tempfile.NamedTemporaryFile('w+') as f: f.write('x'); f.flush(); \
             print(open(f.name).read())\ntime.localtime(); os.getlogin if 0 else None; print(pwd.getpwuid(os.getuid()).pw_name,len(str(uuid.uuid4())))",
            "36",
        ),
        python(
            "numpy, where it is installed",
            "try:\n    import numpy\n    print('numpy',int(numpy.arange(5).sum()))\nexcept ModuleNotFoundError: print('numpy 10')",
            "numpy 10",
        ),
        (
            Case::own(
                "node: files, promises, workers",
                "node",
                "const fs=require('fs').promises;(async()=>{await fs.writeFile('a','7');\
                 console.log('read',await fs.readFile('a','utf8'),crypto.randomUUID().length)})()",
            ),
            prints("read 7 36"),
        ),
        (
            Case::own(
                "bash: pipelines, files, arithmetic",
                "bash",
                "seq 1 100 | awk '{s+=$1} END {print s}' > s; cat s; [[ $(<s) == 5050 ]] && echo yes",
            ),
            prints("5050\nyes"),
        ),
    ];
    let mut input = Case::own(
        "input",
        "python",
        "import sys\nprint(sys.stdin.read().upper(),open('data/in.txt').read())",
    );
    input.stdin = Some("ä\n".to_owned());
    input.files = vec![("data/in.txt".to_owned(), "ö".into())];
    cases.push((input, prints("Ä\n ö")));
    cases
}

/// What one run leaves, the next does not find.
pub(super) fn runs_share_nothing(stage: &Stage) -> Option<String> {
    let leave = "import os\nfor d in ('.','/tmp','/dev/shm'): open(d+'/left','w').write('x')\nprint('left')";
    let look = "import os\nfor d in ('.','/tmp','/dev/shm'): print('ESCAPE' if os.path.exists(d+'/left') else 'clean')";
    let leave = stage.play(&Case::own("leave something", "python", leave), &prints("left"));
    leave.or_else(|| {
        stage.play(&Case::own("look for it", "python", look), &prints("clean\nclean\nclean"))
    })
}
