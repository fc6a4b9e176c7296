//! URLs of servers as they are shown.

/// Comma-separated URLs, without user and password of each.
pub fn without_passwords(urls: &str) -> String {
    let plain = |url: &str| match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => url.to_owned(),
    };
    urls.split(',').map(|url| plain(url.trim())).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_left_out() {
        for (urls, shown) in [
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
            ("nats://me:secret@host:4222", "nats://host:4222"),
            ("nats://token@a, me:secret@b:1", "nats://a,b:1"),
        ] {
            assert_eq!(without_passwords(urls), shown);
        }
    }
}
