// SPDX-License-Identifier: Apache-2.0
// Run the ONNX models of genmodel with the real ONNX Runtime.
//
//   node ort.js run FILE...           one line of JSON per file: the outputs
//   node ort.js loop FILE STOPFILE    until STOPFILE exists: load and run FILE anew each time, and run
//                                     one session that stays; prints {loads, seen, kept} at the end,
//                                     seen: the outputs in order of first appearance
'use strict';
const fs = require('fs');
const crypto = require('crypto');
const path = require('path');
const ort = require(path.join(process.env.ORT_DIR, 'node_modules', 'onnxruntime-node'));

const input = () => new ort.Tensor('float32', Float32Array.from({length: 64}, (_, i) => Math.sin(i + 1)), [1, 64]);
const options = {intraOpNumThreads: 1, interOpNumThreads: 1};

async function run(session) {
	const y = (await session.run({x: input()})).y;
	const bytes = Buffer.from(y.data.buffer, y.data.byteOffset, y.data.byteLength);
	return crypto.createHash('sha256').update(bytes).digest('hex') + ':' + y.data[0];
}

async function loop(file, stop) {
	const kept = await ort.InferenceSession.create(file, options);
	const first = await run(kept);
	const seen = [];
	let loads = 0;
	while (loads === 0 || !fs.existsSync(stop)) {
		const session = await ort.InferenceSession.create(file, options);
		const out = await run(session);
		await session.release();
		if (!seen.includes(out)) {
			seen.push(out);
			fs.writeFileSync(stop + '.seen', JSON.stringify(seen));
		}
		if (await run(kept) !== first)
			throw new Error('the session that stayed open changed its output');
		loads++;
	}
	console.log(JSON.stringify({loads, seen, kept: first}));
}

(async () => {
	const [, , mode, ...files] = process.argv;
	if (mode === 'run')
		for (const f of files)
			console.log(await run(await ort.InferenceSession.create(f, options)));
	else if (mode === 'loop')
		await loop(files[0], files[1]);
	else
		throw new Error('usage: ort.js run|loop FILE...');
})().catch(e => { console.error(e.stack || e); process.exit(1); });
