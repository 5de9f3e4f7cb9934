//! peer_hyper: hyper's pooling client on a current-thread Tokio runtime, C tasks at a time.

use hyper::body::HttpBody;
use hyper::client::HttpConnector;
use hyper::{Body, Client, Request};
use std::rc::Rc;

fn main() {
    let options = peer_rust::parse();
    let url: hyper::Uri = options.url().parse().expect("the URL");
    let upload = hyper::body::Bytes::from(vec![0u8; options.upload]);

    peer_rust::run(&options, || {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client: Rc<Client<_, Body>> = Rc::new(Client::builder().build(connector));
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
