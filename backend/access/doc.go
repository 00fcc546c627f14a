// Package access knows who may use the web client: accounts, passwords,
// sign-in attempts and sessions.
//
// A person proves who they are once, with a password, and is then known by a
// cookie. Four things are easily got wrong, and are decided here:
//
//   - Passwords are kept as argon2id (RFC 9106) with the second set of
//     parameters that the RFC recommends. An address that has no account costs
//     the same work as one that has, so an answer's time does not tell which
//     addresses exist.
//   - Attempts are limited for each account and for each network address. A browser
//     that has signed in to the account before is known by a sealed cookie and has
//     a budget of its own, so that guesses from elsewhere lock nobody out. An
//     attempt beyond the limit gets the very answer that a wrong password gets,
//     even when the password is right: a guesser learns nothing.
//   - A session gets a new token at sign-in (so a token planted in a browser
//     before is worthless), ends when it has not been used for Idle and at the
//     latest after Lifetime, and ends at once when the password changes. The
//     database holds only a hash of the token.
//   - The cookie is named __Host-…: a browser takes it only from this host, over
//     TLS, for all paths (RFC 6265bis, section 4.1.3.2).
//
// How somebody proved who they are and what they then hold are apart: another
// way to sign in ends in Sessions.SignIn, as Accounts.Verify does here.
package access
