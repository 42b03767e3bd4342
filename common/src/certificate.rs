//! Why a server's certificate was refused, in words that say what to do.
//!
//! Owns the remedies, which the collector's and the command line's HTTPS clients share. The verdict is the TLS
//! library's and reaches us as its sentence; a sentence that is not known here is passed on as it is.

use alloc::{format, string::String};

/// What marks a sentence of rustls as being about the server's certificate.
const REFUSED: &str = "invalid peer certificate: ";

/// `said` is what the client reports; `option` names the setting or flag that says which authorities count.
#[must_use]
pub fn in_words(said: &str, option: &str) -> String {
    let Some((_, why)) = said.split_once(REFUSED) else {
        return String::from(said);
    };
    // In the order in which rustls writes them: the name's sentence quotes names, which may be anything.
    if why.starts_with("certificate not valid for name") {
        format!(
            "{why}; use an address that the server's certificate names, or have one issued for this address"
        )
    } else if why.starts_with("UnknownIssuer") {
        format!(
            "no trusted authority issued the server's certificate (UnknownIssuer); where a private one did, name its \
             certificate with {option}, else somebody stands in between"
        )
    } else if why.starts_with("BadSignature") {
        format!(
            "no trusted authority issued the server's certificate (BadSignature): one that is trusted has the same name \
             and another key; where that is right, name its new certificate with {option}, else somebody stands in between"
        )
    } else if why.starts_with("certificate expired") {
        format!("the server's {why}; whoever runs it must renew it, unless this machine's clock is wrong")
    } else if why.starts_with("certificate not valid yet") {
        format!("the server's {why}; this machine's clock is wrong, or the one of whoever issued it")
    } else {
        format!("the server's certificate is refused: {why}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_says_what_to_do_and_everything_else_is_passed_on() {
        let words = |why: &str| in_words(&format!("io: {REFUSED}{why}"), "--ca");
        assert!(words("UnknownIssuer").contains("name its certificate with --ca"));
        assert!(words("BadSignature").contains("name its new certificate with --ca"));
        assert!(words("certificate expired: verification time 5 (UNIX)").contains("must renew it"));
        assert!(words("certificate not valid yet: verification time 5").contains("clock is wrong"));
        let named =
            words("certificate not valid for name \"certificate expired\"; it is for \"UnknownIssuer\"");
        assert!(named.contains("use an address"), "{named}");
        assert!(words("Revoked").ends_with("is refused: Revoked"));
        assert_eq!(in_words("timeout: global", "--ca"), "timeout: global");
    }
}
