//! The server's answer to a request for extensions (extension 0x0001).

use binary_sv2::Seq064K;

use crate::extensions::{RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess};

/// What a server that speaks the `known` extensions answers; without the `required` ones it does not go on.
///
/// # Errors
///
/// The answer that denies: some required extension is not asked for, or none that is asked for is known. The peer may ask again.
pub fn negotiate<'a>(
    request: &RequestExtensions<'a>,
    known: &[u16],
    required: &[u16],
) -> Result<RequestExtensionsSuccess<'a>, RequestExtensionsError<'a>> {
    let request_id = request.request_id;
    let asked = |extension: &u16| request.requested_extensions.iter().any(|asked| asked == extension);
    let unknown = request.requested_extensions.iter().copied().filter(|asked| !known.contains(asked));
    let denied = |required: &[u16]| RequestExtensionsError {
        request_id,
        unsupported_extensions: list(unknown.clone()),
        required_extensions: list(required.iter().copied()),
    };
    if !required.iter().all(asked) {
        return Err(denied(required));
    }
    let supported: Vec<u16> = known.iter().copied().filter(|known| asked(known)).collect();
    if supported.is_empty() && request.requested_extensions.iter().next().is_some() {
        return Err(denied(&[]));
    }
    Ok(RequestExtensionsSuccess { request_id, supported_extensions: list(supported) })
}

/// A list of extensions as messages carry it.
fn list(extensions: impl IntoIterator<Item = u16>) -> Seq064K<'static, u16> {
    Seq064K::new(extensions.into_iter().collect())
        .expect("a list that is part of another, or of what a server speaks, is no longer than a sequence")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_granted_and_what_is_required_must_be_asked_for() {
        let answer = |asked: &[u16], required: &[u16]| {
            let request =
                RequestExtensions { request_id: 5, requested_extensions: list(asked.iter().copied()) };
            match negotiate(&request, &[1, 2], required) {
                Ok(granted) => (granted.supported_extensions.into_inner(), None),
                Err(denied) => {
                    let required = denied.required_extensions.into_inner();
                    (denied.unsupported_extensions.into_inner(), Some(required))
                }
            }
        };
        assert_eq!(answer(&[], &[]), (vec![], None));
        assert_eq!(answer(&[7, 2, 2], &[]), (vec![2], None));
        assert_eq!(answer(&[7, 8], &[]), (vec![7, 8], Some(vec![])));
        assert_eq!(answer(&[1, 7], &[2]), (vec![7], Some(vec![2])));
        assert_eq!(answer(&[], &[2]), (vec![], Some(vec![2])));
        assert_eq!(answer(&[2], &[2]), (vec![2], None));
    }
}
