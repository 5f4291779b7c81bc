//! Where a file can be made wrong: operators, conditions, bodies of functions and statements, one fault at a time.
//!
//! A place is a range of the file's text with what may stand there instead. Texts for people, assertions, what exists
//! for tests only and what the compiler computes are left alone.

use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    BinOp, Block, Expr, ExprBinary, FnArg, ImplItemFn, ItemFn, ReturnType, Signature, Stmt, TraitItemFn,
    Type, UnOp,
};

/// A range of text that can be made wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Where in the file, in bytes.
    pub range: Range<usize>,
    /// How something else is put there.
    pub kind: Kind,
    /// The faults.
    pub faults: Vec<Fault>,
    /// The function, with the type it belongs to.
    pub function: String,
}

/// How a fault is put in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An expression instead of the expression.
    Expression,
    /// Nothing instead of the statement.
    Statement,
    /// Instructions before all others of a function's body; the range is empty.
    Body,
    /// The word `const` of a function, which goes: what the compiler computes cannot be switched.
    Const,
}

/// One fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What it does, as the list names it.
    pub what: String,
    /// The text that is put in.
    pub text: String,
}

/// All places of a file.
///
/// # Errors
/// The file is not Rust.
pub fn of(text: &str) -> Result<Vec<Place>, String> {
    let file = syn::parse_file(text).map_err(|error| error.to_string())?;
    let mut finder = Finder {
        text,
        places: Vec::new(),
        names: Vec::new(),
        constants: 0,
    };
    finder.visit_file(&file);
    Ok(finder.places)
}

#[derive(Debug)]
struct Finder<'a> {
    text: &'a str,
    places: Vec<Place>,
    names: Vec<String>,
    /// How many places before the function had been found, for what is dropped again.
    constants: usize,
}

impl Finder<'_> {
    fn at(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    fn add(&mut self, range: Range<usize>, kind: Kind, faults: Vec<Fault>) {
        if faults.is_empty() && kind != Kind::Const {
            return;
        }
        let function = self.names.join("::");
        // Outside of functions everything is computed by the compiler.
        if function.is_empty() || self.constants > 0 {
            return;
        }
        self.places.push(Place {
            range,
            kind,
            faults,
            function,
        });
    }

    /// A function: its body as a whole, then what is in it.
    fn function(&mut self, signature: &Signature, body: &Block) {
        self.names.push(signature.ident.to_string());
        if let Some(word) = &signature.constness {
            self.add(word.span().byte_range(), Kind::Const, Vec::new());
        }
        let whole = body.span().byte_range();
        let inner = self.at(&whole).trim_matches(['{', '}']).trim().to_owned();
        let values = match &signature.output {
            ReturnType::Default => vec![String::new()],
            ReturnType::Type(_, of) => values(of),
        };
        let takes_self = matches!(signature.inputs.first(), Some(FnArg::Receiver(_)));
        let is_default = signature.ident == "default" && !takes_self;
        let faults: Vec<Fault> = values
            .into_iter()
            .filter(|value| !inner.is_empty() && *value != inner && !is_default)
            .map(|value| Fault {
                what: if value.is_empty() {
                    "does nothing".to_owned()
                } else {
                    format!("only gives {value}")
                },
                text: format!(" return {value};"),
            })
            .collect();
        let begin = whole.start + 1;
        self.add(begin..begin, Kind::Body, faults);
        if matches!(signature.output, ReturnType::Default) {
            self.last_of(body);
        }
        self.visit_block(body);
        self.names.pop();
    }

    /// What ends a block whose value nobody takes.
    fn last_of(&mut self, block: &Block) {
        if let Some(Stmt::Expr(last, None)) = block.stmts.last() {
            self.effect(last);
        }
    }

    /// An expression that is there for what it does and not for its value.
    fn effect(&mut self, expression: &Expr) {
        match expression {
            Expr::MethodCall(_) | Expr::Call(_) | Expr::Assign(_) => self.omit(expression),
            Expr::Try(inner) if matches!(*inner.expr, Expr::MethodCall(_) | Expr::Call(_)) => {
                self.omit(expression);
            }
            Expr::Binary(binary) if assigned(&binary.op).is_some() => self.omit(expression),
            Expr::Match(choice) => {
                for arm in &choice.arms {
                    self.effect(&arm.body);
                }
            }
            Expr::If(choice) => {
                self.last_of(&choice.then_branch);
                if let Some((_, other)) = &choice.else_branch {
                    self.effect(other);
                }
            }
            Expr::Block(inner) => self.last_of(&inner.block),
            _ => {}
        }
    }

    fn omit(&mut self, expression: &Expr) {
        let range = expression.span().byte_range();
        let what = format!("leaves out {}", short(self.at(&range)));
        let text = String::new();
        self.add(range, Kind::Statement, vec![Fault { what, text }]);
    }

    /// Another text for the whole of an expression.
    fn instead(&self, range: &Range<usize>, part: &Range<usize>, other: &str) -> Fault {
        let before = self.at(&(range.start..part.start));
        let after = self.at(&(part.end..range.end));
        Fault {
            what: format!("{}: {other} for {}", short(self.at(range)), self.at(part).trim()),
            text: format!("{before}{other}{after}"),
        }
    }

    /// A condition that is neither a comparison nor a negation, which have faults of their own.
    fn condition(&mut self, condition: &Expr) {
        if matches!(
            condition,
            Expr::Binary(_) | Expr::Unary(_) | Expr::Let(_) | Expr::Lit(_) | Expr::Macro(_)
        ) {
            return;
        }
        let range = condition.span().byte_range();
        let faults = ["true", "false"]
            .map(|value| self.instead(&range, &range, value))
            .to_vec();
        self.add(range, Kind::Expression, faults);
    }

    fn binary(&mut self, binary: &ExprBinary) {
        if holds_let(&binary.left) || holds_let(&binary.right) {
            return;
        }
        let range = binary.span().byte_range();
        let part = binary.op.span().byte_range();
        let faults = operators(&binary.op)
            .iter()
            .map(|other| self.instead(&range, &part, other))
            .collect();
        self.add(range, Kind::Expression, faults);
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if for_tests(attributes(item)) {
            return;
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.names.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.names.pop();
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some((_, path, _)) = &item.trait_
            && let Some(last) = path.segments.last()
            && ["Debug", "Display", "Error"]
                .iter()
                .any(|text| last.ident == *text)
        {
            return;
        }
        self.names.push(short(self.at(&item.self_ty.span().byte_range())));
        visit::visit_item_impl(self, item);
        self.names.pop();
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.names.push(item.ident.to_string());
        visit::visit_item_trait(self, item);
        self.names.pop();
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.function(&function.sig, &function.block);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !for_tests(&function.attrs) {
            self.function(&function.sig, &function.block);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(body) = &function.default {
            self.function(&function.sig, body);
        }
    }

    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    fn visit_type(&mut self, _: &'ast Type) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}

    fn visit_expr_repeat(&mut self, repeat: &'ast syn::ExprRepeat) {
        self.visit_expr(&repeat.expr);
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if let Stmt::Expr(expression, Some(_)) = statement {
            self.effect(expression);
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_expr_for_loop(&mut self, each: &'ast syn::ExprForLoop) {
        self.last_of(&each.body);
        visit::visit_expr_for_loop(self, each);
    }

    fn visit_expr_loop(&mut self, each: &'ast syn::ExprLoop) {
        self.last_of(&each.body);
        visit::visit_expr_loop(self, each);
    }

    fn visit_expr_while(&mut self, each: &'ast syn::ExprWhile) {
        self.last_of(&each.body);
        self.condition(&each.cond);
        visit::visit_expr_while(self, each);
    }

    fn visit_expr_if(&mut self, choice: &'ast syn::ExprIf) {
        self.condition(&choice.cond);
        visit::visit_expr_if(self, choice);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let Some((_, guard)) = &arm.guard {
            self.condition(guard);
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_binary(&mut self, binary: &'ast ExprBinary) {
        self.binary(binary);
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        if matches!(unary.op, UnOp::Not(_) | UnOp::Neg(_)) {
            let range = unary.span().byte_range();
            let part = unary.op.span().byte_range();
            let mut fault = self.instead(&range, &part, "");
            fault.what = format!("{}: as it is, not turned round", short(self.at(&range)));
            self.add(range, Kind::Expression, vec![fault]);
        }
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let name = call.method.to_string();
        let other = OPPOSITES.iter().find_map(|(one, other)| match () {
            () if name == *one => Some(*other),
            () if name == *other => Some(*one),
            () => None,
        });
        if let Some(other) = other {
            let range = call.span().byte_range();
            let part = call.method.span().byte_range();
            let fault = self.instead(&range, &part, other);
            self.add(range, Kind::Expression, vec![fault]);
        }
        visit::visit_expr_method_call(self, call);
    }
}

/// Methods of one type that say or do the opposite.
const OPPOSITES: &[(&str, &str)] = &[
    ("min", "max"),
    ("is_some", "is_none"),
    ("is_some_and", "is_none_or"),
    ("is_ok", "is_err"),
    ("any", "all"),
    ("saturating_add", "saturating_sub"),
    ("wrapping_add", "wrapping_sub"),
    ("checked_add", "checked_sub"),
    ("first", "last"),
    ("leading_zeros", "trailing_zeros"),
];

/// What else an operator could have been.
fn operators(operator: &BinOp) -> &'static [&'static str] {
    match operator {
        BinOp::Lt(_) => &["<=", ">="],
        BinOp::Le(_) => &["<", ">"],
        BinOp::Gt(_) => &[">=", "<="],
        BinOp::Ge(_) => &[">", "<"],
        BinOp::Eq(_) => &["!="],
        BinOp::Ne(_) => &["=="],
        BinOp::And(_) => &["||"],
        BinOp::Or(_) => &["&&"],
        BinOp::Add(_) => &["-"],
        BinOp::Sub(_) | BinOp::Mul(_) => &["+"],
        BinOp::Div(_) => &["*"],
        BinOp::Rem(_) => &["/"],
        BinOp::BitAnd(_) => &["|"],
        BinOp::BitOr(_) | BinOp::BitXor(_) => &["&"],
        BinOp::Shl(_) => &[">>"],
        BinOp::Shr(_) => &["<<"],
        other => assigned(other).unwrap_or(&[]),
    }
}

/// The same for those that assign.
fn assigned(operator: &BinOp) -> Option<&'static [&'static str]> {
    Some(match operator {
        BinOp::AddAssign(_) => &["-="],
        BinOp::SubAssign(_) | BinOp::MulAssign(_) => &["+="],
        BinOp::DivAssign(_) => &["*="],
        BinOp::RemAssign(_) => &["/="],
        BinOp::BitAndAssign(_) => &["|="],
        BinOp::BitOrAssign(_) | BinOp::BitXorAssign(_) => &["&="],
        BinOp::ShlAssign(_) => &[">>="],
        BinOp::ShrAssign(_) => &["<<="],
        _ => return None,
    })
}

/// `let` inside a condition binds names for what follows: its operators cannot be others.
fn holds_let(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(binary) => holds_let(&binary.left) || holds_let(&binary.right),
        _ => false,
    }
}

/// What a function could give without doing its work. What does not fit the type does not compile, and is passed over.
fn values(of: &Type) -> Vec<String> {
    let Type::Path(path) = of else {
        return match of {
            Type::Tuple(tuple) if tuple.elems.is_empty() => vec!["()".to_owned()],
            Type::Reference(reference) if is_text(&reference.elem) => vec!["\"\"".to_owned()],
            Type::Tuple(_) | Type::Array(_) => vec!["Default::default()".to_owned()],
            _ => Vec::new(),
        };
    };
    let Some(last) = path.path.segments.last() else {
        return Vec::new();
    };
    let inner = match &last.arguments {
        syn::PathArguments::AngleBracketed(inner) => inner.args.iter().find_map(|argument| match argument {
            syn::GenericArgument::Type(inner) => Some(inner),
            _ => None,
        }),
        _ => None,
    };
    let texts: &[&str] = match (last.ident.to_string().as_str(), inner) {
        ("bool", _) => &["true", "false"],
        (
            "u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "i8" | "i16" | "i32" | "i64" | "i128" | "isize",
            _,
        ) => &["0", "1"],
        ("Option", Some(inner)) => {
            let some = values(inner).into_iter().map(|value| format!("Some({value})"));
            return std::iter::once("None".to_owned()).chain(some).collect();
        }
        ("Result", Some(inner)) => {
            return values(inner)
                .into_iter()
                .map(|value| format!("Ok({value})"))
                .collect();
        }
        _ => &["Default::default()"],
    };
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn is_text(of: &Type) -> bool {
    matches!(of, Type::Path(path) if path.path.is_ident("str"))
}

/// Whether it is there for tests only.
fn for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string().contains("test"),
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::NameValue(_) => false,
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        _ => &[],
    }
}

/// A piece of code on one line, cut where it is long.
pub fn short(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(90) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line,
    }
}
