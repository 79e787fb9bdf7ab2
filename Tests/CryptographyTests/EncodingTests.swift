import Cryptography
import Testing

struct EncodingTests {
    /// RFC 4648, section 10.
    @Test(arguments: [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy"),
    ])
    func base64(_ plain: String, _ encoded: String) {
        #expect(Base64.encode(Array(plain.utf8)) == encoded)
        #expect(Base64.decode(encoded) == Array(plain.utf8))
        #expect(Base64.encode(Array(plain.utf8), .urlUnpadded) == encoded.filter { $0 != "=" })
    }

    @Test(arguments: ["Z", "Zg", "Zg=", "Zh==", "Zm9=", "Zg==Zg==", "Zm9v\n", "Zm-v", "===="]) func strictBase64(_ text: String) {
        #expect(Base64.decode(text) == nil)
    }

    @Test func urlAlphabet() {
        #expect(Base64.encode([0xfb, 0xff], .urlUnpadded) == "-_8")
        #expect(Base64.decode("-_8", .urlUnpadded) == [0xfb, 0xff])
        #expect(Base64.decode("+/8", .urlUnpadded) == nil)
    }

    @Test(arguments: [
        ("", ""), ("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foob", "mzxw6yq"), ("fooba", "mzxw6ytb"), ("foobar", "mzxw6ytboi"),
    ])
    func base32(_ plain: String, _ encoded: String) { #expect(Base32.encode(Array(plain.utf8)) == encoded) }

    /// Every length, five bits after another.
    @Test func base32OfAnyLength() {
        let alphabet = Array("abcdefghijklmnopqrstuvwxyz234567")
        for count in 0...40 {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 0x9d &+ 0xc3) }
            let bits = bytes.flatMap { byte in (0..<8).map { Int(byte >> (7 - UInt8($0)) & 1) } }
            let expected = stride(from: 0, to: bits.count, by: 5).map { start in
                alphabet[(0..<5).reduce(0) { $0 << 1 | (start + $1 < bits.count ? bits[start + $1] : 0) }]
            }
            #expect(Base32.encode(bytes) == String(expected), "\(count) bytes")
        }
    }

    @Test func digests() {
        #expect(Hex.encode(SHA256.digest(Array("abc".utf8))) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        // RFC 4231, case 2.
        let message = Array("what do ya want for nothing?".utf8)
        let code = message.withUnsafeBytes { HMACSHA256(key: Array("Jefe".utf8)).code($0) }
        #expect(Hex.encode(code) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        let split = message.withUnsafeBytes {
            HMACSHA256(key: Array("Jefe".utf8)).code(Array($0[..<5]), .init(rebasing: $0[5...]))
        }
        #expect(split == code)
        #expect(constantTimeEqual(code, split) && !constantTimeEqual(code, []))
    }
}
