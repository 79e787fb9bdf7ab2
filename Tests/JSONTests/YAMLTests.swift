import JSON
import Testing
import YAML

struct YAMLTests {
    @Test func readsOneDocument() throws {
        let value = try YAMLDocument.parse(
            "endpoints:\n  - id: ep_a   # comment\n    types: [order.*, 'x']\n    on: true\n    n: 5\n    text: |\n      two\n      lines\n    nothing:\n    quoted: \"7\"\n"
        )
        let expected =
            "{\"endpoints\":[{\"id\":\"ep_a\",\"types\":[\"order.*\",\"x\"],\"on\":true,\"n\":5,\"text\":\"two\\nlines\\n\",\"nothing\":null,\"quoted\":\"7\"}]}"
        #expect(value.text == expected)
    }

    @Test(arguments: [
        ("", "null"), ("~", "null"), ("on", "\"on\""), ("yes", "\"yes\""), ("0x10", "\"0x10\""), ("010", "\"010\""), ("1.5", "1.5"),
        ("127.0.0.1", "\"127.0.0.1\""), ("5s", "\"5s\""),
    ])
    func scalars(_ text: String, _ json: String) throws { #expect(try YAMLDocument.parse(text).text == json) }

    @Test(arguments: [
        ("a: 1\na: 2", "stands twice", 2), ("a: &x 1\nb: *x", "anchors", 1), ("a: *x", "alias", 1), ("a: !!int 1", "tags", 1),
        ("a: 1\n---\nb: 2", "second document", 2),
        ("a: [1", "", 2), ("a: b: c", "", 1), ("a:\n\t- 1", "", 2),
    ])
    func refusesWithThePlace(_ text: String, _ reason: String, _ line: Int) {
        do {
            _ = try YAMLDocument.parse(text)
            Issue.record("accepted")
        } catch {
            #expect(error.line == line, "\(error)")
            #expect(reason.isEmpty || error.reason.contains(reason), "\(error)")
        }
    }

    @Test func boundsItsDepth() {
        let deep = String(repeating: "[", count: 40) + String(repeating: "]", count: 40)
        #expect(throws: YAMLDocument.ParseError.self) { try YAMLDocument.parse(deep) }
    }
}
