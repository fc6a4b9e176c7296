// Runs in a Node.js that was started without a program: reports readiness with one byte, reads three lines
// (the file name of the program, TRACEPARENT, and the directory of its workspace), and runs the program as
// the main module, like `node FILE`. With a workspace this is the working directory, and the program is
// compiled as if its file lay there: so it finds the modules of the workspace.
{
    const fs = require("fs");
    fs.writeSync(1, "\0");
    const byte = Buffer.alloc(1);
    const words = [];
    let word = "";
    while (words.length < 3) {
        if (fs.readSync(0, byte, 0, 1, null) === 0) process.exit(0);
        if (byte[0] === 10) {
            words.push(word);
            word = "";
        } else {
            word += String.fromCharCode(byte[0]);
        }
    }
    const [name, traceparent, workspace] = words;
    if (traceparent) process.env.TRACEPARENT = traceparent;
    const path = require("path").join(process.cwd(), name);
    process.argv = [process.execPath, path];
    const Module = require("module");
    if (workspace) {
        process.chdir(workspace);
        const there = require("path").join(process.cwd(), name);
        const compile = Module.prototype._compile;
        Module.prototype._compile = function (content, filename, ...rest) {
            if (filename !== path) return compile.call(this, content, filename, ...rest);
            Module.prototype._compile = compile;
            this.filename = there;
            this.paths = Module._nodeModulePaths(process.cwd());
            return compile.call(this, content, there, ...rest);
        };
    }
    Module.runMain(path);
}
