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
        const [here, seen] = [path, there].map((file) => require("url").pathToFileURL(file).href);
        const resolver = (here, seen) => (specifier, context, next) =>
            next(specifier, context.parentURL === here ? { ...context, parentURL: seen } : context);
        const compile = Module.prototype._compile;
        Module.prototype._compile = function (content, filename, ...rest) {
            if (filename !== path) return compile.call(this, content, filename, ...rest);
            Module.prototype._compile = compile;
            try {
                new (require("vm").Script)(Module.wrap(content.replace(/^#!.*/, "")));
            } catch {
                // A program with import statements, which is loaded once more by the address of its file.
                if (Module.registerHooks) {
                    Module.registerHooks({ resolve: resolver(here, seen) });
                } else {
                    const hook = `export const resolve = (${resolver})(${JSON.stringify(here)}, ${JSON.stringify(seen)})`;
                    Module.register?.(`data:text/javascript,${encodeURIComponent(hook)}`);
                }
                return compile.call(this, content, filename, ...rest);
            }
            this.filename = there;
            this.paths = Module._nodeModulePaths(process.cwd());
            return compile.call(this, content, there, ...rest);
        };
    }
    Module.runMain(path);
}
