//! peer_hyper: hyper's pooling client on a current-thread Tokio runtime, C tasks at a time; TLS by hyper-tls.

use hyper::body::HttpBody;
use hyper::client::connect::Connect;
use hyper::client::HttpConnector;
use hyper::{Body, Client, Request};
use hyper_tls::HttpsConnector;
use peer_rust::Options;
use std::rc::Rc;

fn run<C>(options: &Options, connector: C)
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let url: hyper::Uri = options.url().parse().expect("the URL");
    let upload = hyper::body::Bytes::from(vec![0u8; options.upload]);

    peer_rust::run(options, || {
        let client: Rc<Client<C, Body>> = Rc::new(Client::builder().http2_only(options.http == 2).build(connector));
        move || {
            let (client, url, upload) = (client.clone(), url.clone(), upload.clone());
            async move {
                let method = if upload.is_empty() { "GET" } else { "PUT" };
                let request = Request::builder().method(method).uri(url).body(Body::from(upload)).expect("a request");
                let mut response = client.request(request).await.expect("a response");
                let mut size = 0;

                assert!(response.status() == 200, "the status is not 200");
                while let Some(part) = response.body_mut().data().await {
                    size += part.expect("a part of the body").len() as u64;
                }
                size
            }
        }
    });
}

fn main() {
    let options = peer_rust::parse();
    let mut connector = HttpConnector::new();

    connector.set_nodelay(true);
    match options.ca_pem() {
        None => run(&options, connector),
        Some(pem) => {
            let protocol = if options.http == 2 { "h2" } else { "http/1.1" };
            let tls = native_tls::TlsConnector::builder()
                .disable_built_in_roots(true)
                .add_root_certificate(native_tls::Certificate::from_pem(&pem).expect("a certificate"))
                .request_alpns(&[protocol])
                .build()
                .expect("the TLS settings");
            connector.enforce_http(false);
            run(&options, HttpsConnector::from((connector, tls.into())));
        }
    }
}
