//! peer_reqwest: reqwest on a current-thread Tokio runtime, C tasks at a time.

fn main() {
    let options = peer_rust::parse();
    let url: reqwest::Url = options.url().parse().expect("the URL");
    let upload = options.upload;
    let pem = options.ca_pem();
    let is_http2 = options.http == 2;

    peer_rust::run(&options, || {
        let mut builder = reqwest::Client::builder().no_proxy().tcp_nodelay(true);
        if let Some(pem) = pem {
            let root = reqwest::Certificate::from_pem(&pem).expect("a certificate");
            builder = builder.tls_built_in_root_certs(false).add_root_certificate(root);
        }
        builder = if is_http2 { builder.http2_prior_knowledge() } else { builder.http1_only() };
        let client = builder.build().expect("a client");
        let zeros: &'static [u8] = Box::leak(vec![0u8; upload].into_boxed_slice());
        move || {
            let request = if zeros.is_empty() { client.get(url.clone()) } else { client.put(url.clone()).body(zeros) };
            async move {
                let mut response = request.send().await.expect("a response");
                let mut size = 0;

                assert!(response.status() == 200, "the status is not 200");
                while let Some(part) = response.chunk().await.expect("a part of the body") {
                    size += part.len() as u64;
                }
                size
            }
        }
    });
}
