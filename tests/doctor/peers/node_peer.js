// Real Node.js, hung in the ways the doctor must name, and healthy twins.
//
// usage: node node_peer.js CASE PORT. Prints "ready PID" when the scene stands.
'use strict';
const childProcess = require('child_process');
const fs = require('fs');
const http = require('http');
const os = require('os');
const path = require('path');

const port = Number(process.argv[3]);
const agent = new http.Agent({ keepAlive: true });

function ready() {
    console.log('ready ' + process.pid);
}

function get() {
    return new Promise((resolve, reject) => {
        http.get({ host: '127.0.0.1', port, agent, path: '/' }, (response) => {
            response.resume();
            response.on('end', resolve);
        }).on('error', reject);
    });
}

function rest() {
    setInterval(() => {}, 3600000);
}

function pause(ms) {
    return new Promise((resolve) => setTimeout(resolve, ms));
}

const cases = {
    // Synchronous work in a callback, with an answer on its way.
    async blocked() {
        await get();
        get();
        setTimeout(() => {
            const start = Date.now();
            let isReady = false;
            for (;;) {
                if (!isReady && Date.now() - start > 500) { // the answer has come
                    isReady = true;
                    ready();
                }
            }
        }, 50);
    },
    async 'blocked-ok'() {
        ready();
        for (;;) {
            await get();
            const until = Date.now() + 50;
            while (Date.now() < until) {
                // a while
            }
            await pause(10);
        }
    },
    // All four threads of the pool open a pipe that nobody writes to.
    async pool() {
        const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'doctor-'));
        const pipe = path.join(folder, 'pipe');
        childProcess.execFileSync('mkfifo', [pipe]);
        for (let i = 0; i < 4; i++) {
            fs.open(pipe, 'r', () => {});
        }
        await pause(200);
        fs.rmSync(folder, { recursive: true });
        ready();
        rest();
    },
    async 'pool-ok'() {
        ready();
        for (;;) {
            await fs.promises.readFile('/proc/self/stat');
            await pause(5);
        }
    },
    // A response whose body nobody reads.
    async paused() {
        http.get({ host: '127.0.0.1', port, agent, path: '/' }, (response) => {
            response.once('readable', () => response.read(1));
        });
        await pause(500);
        ready();
        rest();
    },
    async 'one-request'() {
        get();
        await pause(100);
        ready();
    },
    async busy() {
        ready();
        for (;;) {
            await Promise.all([get(), get(), get(), get()]);
            await pause(2);
        }
    },
    async idle() {
        await Promise.all([get(), get(), get()]);
        await pause(200);
        ready();
        rest();
    },
};

cases[process.argv[2]]();
