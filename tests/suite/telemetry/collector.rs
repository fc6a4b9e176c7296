//! A collector of traces: takes OTLP over HTTP on a free port, and keeps every span.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
};
use prost::Message as _;

/// A span as it was exported.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedSpan {
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty for a root.
    pub parent: String,
    /// As `opentelemetry.proto.trace.v1.Span.SpanKind` counts them: 2 server, 3 client, 4 producer.
    pub kind: i32,
    pub attributes: BTreeMap<String, String>,
    /// Of whoever told it.
    pub resource: BTreeMap<String, String>,
}

/// A collector. It ends with the test.
pub struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<ReceivedSpan>>>,
    taking: Option<JoinHandle<()>>,
}

impl Collector {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let spans: Arc<Mutex<Vec<ReceivedSpan>>> = Arc::default();
        let kept = Arc::clone(&spans);
        let taking = std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A connection without a request is how `end` says that it is over.
                if !serve(&stream.unwrap(), &kept) {
                    return;
                }
            }
        });
        Self { address, spans, taking: Some(taking) }
    }

    /// What the program is told: `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that was exported, once whoever exported it has ended.
    pub fn spans(mut self) -> Vec<ReceivedSpan> {
        drop(TcpStream::connect(self.address).unwrap());
        self.taking.take().unwrap().join().unwrap();
        std::mem::take(&mut self.spans.lock().unwrap())
    }
}

/// Takes the requests of one connection; answers whether there were any.
fn serve(stream: &TcpStream, kept: &Mutex<Vec<ReceivedSpan>>) -> bool {
    let mut from = BufReader::new(stream);
    let mut to = stream;
    let mut taken_any = false;
    while let Some(body) = request(&mut from) {
        taken_any = true;
        kept.lock().unwrap().extend(told(&body));
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        to.write_all(head.as_bytes()).unwrap();
    }
    taken_any
}

/// The body of the next request; `None` where the connection is closed.
fn request(from: &mut BufReader<&TcpStream>) -> Option<Vec<u8>> {
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push(line);
    }
    assert_eq!(head[0], "post /v1/traces http/1.1");
    assert!(head.contains(&"content-type: application/x-protobuf".to_owned()), "{head:?}");
    let mut body = vec![0; length];
    from.read_exact(&mut body).unwrap();
    Some(body)
}

fn told(body: &[u8]) -> Vec<ReceivedSpan> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut all = Vec::new();
    for of_resource in request.resource_spans {
        let resource = attributes(&of_resource.resource.unwrap().attributes);
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            all.push(ReceivedSpan {
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                kind: span.kind,
                attributes: attributes(&span.attributes),
                resource: resource.clone(),
            });
        }
    }
    all
}

fn attributes(all: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|any| any.value.clone()) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(is)) => is.to_string(),
        other => format!("{other:?}"),
    };
    all.iter().map(|attribute| (attribute.key.clone(), text(&attribute.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
