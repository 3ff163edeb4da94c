// The interop driver on Apache Thrift's library for Node (see ../drivers.py). Calls are made as their lines come, so that several are
// under way on one connection: the library pipelines them.
const readline = require('readline');
const thrift = require('thrift');
const Int64 = require('node-int64');
const types = require('./clymq_types');
const brokers = require('./Server_Operations');
const coordinators = require('./ZkServer_Operations');

const [form, coordinator, broker] = process.argv.slice(2);

function connect(service, address) {
  const [host, port] = address.split(':');
  const connection = thrift.createConnection(host, Number(port), {
    transport: form.endsWith('-framed') ? thrift.TFramedTransport : thrift.TBufferedTransport,
    protocol: form.startsWith('compact') ? thrift.TCompactProtocol : thrift.TBinaryProtocol,
  });
  connection.on('error', (error) => {
    console.error('connection: ' + error);
    process.exit(1);
  });
  return { client: thrift.createClient(service, connection), connection };
}

const clients = {
  coordinator: connect(coordinators, coordinator),
  broker: connect(brokers, broker),
  stranger: connect(coordinators, broker),
};

// The generated code has no table of the fields' types: these are the 64-bit, the binary and the boolean ones of the IDL.
const WIDE = new Set(['StartIndex', 'EndIndex', 'Cmdindex', 'session', 'offset', 'index', 'timestamp_ms']);
const BINARY = new Set(['message', 'batch']);
const SHORTER = { ConInfo: 'Info', StarttoGet: 'InfoGet', ProGetBroker: 'ProGetBrok', ConStartGetBroker: 'ConStartGetBrok' };

function parse(field, text) {
  const kind = text.slice(0, 2);
  const rest = text.slice(2);
  if (kind === 's:') {
    const bytes = Buffer.from(rest, 'hex');
    return BINARY.has(field) ? bytes : bytes.toString();
  }
  if (kind === 't:') return rest === '1';
  if (!WIDE.has(field)) return Number(rest);
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(rest));
  return new Int64(bytes);
}

function show(value) {
  if (typeof value === 'boolean') return 't:' + (value ? 1 : 0);
  if (typeof value === 'number') return 'i:' + value;
  if (value instanceof Int64) return 'i:' + value.buffer.readBigInt64BE(value.offset);
  return 's:' + Buffer.from(value).toString('hex');
}

let underWay = 0;
let ended = false;

function finish() {
  if (ended && underWay === 0) for (const { connection } of Object.values(clients)) connection.end();
}

async function answer(service, method, words) {
  const name = method[0].toUpperCase() + method.slice(1);
  const request = new types[(SHORTER[name] || name) + 'Request']();
  for (const word of words) {
    const [field, value] = [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)];
    request[field] = parse(field, value);
  }
  try {
    const response = await clients[service].client[method](request);
    const fields = Object.entries(response).filter(([, value]) => value !== null && value !== undefined);
    return ['ok', ...fields.map(([field, value]) => field + '=' + show(value))].join('\t');
  } catch (error) {
    if (error instanceof thrift.Thrift.TApplicationException)
      return `exception\t${error.type}\t${Buffer.from(error.message || '').toString('hex')}`;
    return 'error\t' + Buffer.from(String(error.stack || error)).toString('hex');
  }
}

readline.createInterface({ input: process.stdin })
  .on('line', (line) => {
    const [id, service, method, ...words] = line.split('\t');
    underWay++;
    answer(service, method, words).then((text) => {
      process.stdout.write(`${id}\t${text}\n`);
      underWay--;
      finish();
    });
  })
  .on('close', () => {
    ended = true;
    finish();
  });
